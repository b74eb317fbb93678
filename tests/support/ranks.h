// Groups of ranks for tests, on whatever the test was started.
#pragma once

#include <functional>
#include <initializer_list>

#include "framework/comm/thread_communicator.h"

namespace polyhead::testing {

// Calls `check` with a group of every size in `sizes`.
inline void for_each_group(std::initializer_list<int> sizes,
                           const std::function<void(const Communicator&)>& check) {
  for (int size : sizes) run_on_threads(size, check);
}

}  // namespace polyhead::testing
