// What one process can do for all.
#pragma once

#include <string>

#include "framework/comm/communicator.h"
#include "framework/comm/hang.h"

namespace polyhead {

// Rank 0 does the work, and the others wait for it without limit: nothing but its end is to come.
// All ranks throw the Error that it throws.
template <class Work>
void run_on_rank_0(const Communicator& world, Work&& work) {
  set_communication_timeout(0);
  run_on_all_ranks(world, [&] {
    if (world.rank() == 0) work();
  });
}

// Rank 0 finds something out, and all ranks learn of it, or of why it could not.
template <class Work>
std::string told_by_rank_0(const Communicator& world, Work&& work) {
  std::string found;
  run_on_all_ranks(world, [&] {
    if (world.rank() == 0) found = work();
  });
  return world.all_gather_strings(found).front();
}

}  // namespace polyhead
