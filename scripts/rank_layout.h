// How the ranks of a run divide the work: rank = data index * tensor-parallel size + tensor rank,
// so that the ranks of one model copy are neighbours, most often on one machine.
#pragma once

#include <memory>

#include "framework/comm/communicator.h"

namespace polyhead {

struct RankLayout {
  // Collective. tensor_parallel_size divides the size of the world.
  RankLayout(const Communicator& all, int tensor_parallel_size)
      : world(all),
        tensor(all.split(all.rank() / tensor_parallel_size)),
        data(all.split(all.rank() % tensor_parallel_size)) {}

  const Communicator& world;
  std::unique_ptr<Communicator> tensor;  // the ranks that share one copy of the model
  std::unique_ptr<Communicator> data;    // those that hold the same part of different copies
};

}  // namespace polyhead
