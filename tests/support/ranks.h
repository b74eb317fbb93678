// Groups of ranks for tests, on whatever the test was started.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>

#include "framework/comm/thread_communicator.h"

namespace polyhead::testing {

// All ranks the test was started on: those of mpirun, else this one alone.
const Communicator& world();

// Calls `check` with a group of every size in `sizes`: threads if the test was started alone, else
// as many of mpirun's ranks, and the sizes that they allow.
inline void for_each_group(std::initializer_list<int> sizes,
                           const std::function<void(const Communicator&)>& check) {
  bool checked = false;
  for (int size : sizes) {
    if (world().size() == 1) {
      run_on_threads(size, check);
    } else if (size <= world().size()) {
      const std::unique_ptr<Communicator> group = world().split(world().rank() < size ? 0 : 1);
      if (world().rank() < size) check(*group);
    } else {
      continue;
    }
    checked = true;
  }
  if (!checked) GTEST_SKIP() << "no group of these sizes among " << world().size() << " ranks";
}

}  // namespace polyhead::testing
