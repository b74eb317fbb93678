// What a layer needs to know of tensor parallelism.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "framework/comm/communicator.h"

namespace polyhead {

class TensorParallel {
 public:
  TensorParallel(const Communicator& communicator, bool sequence_parallel)
      : communicator_(communicator), sequence_parallel_(sequence_parallel) {}

  const Communicator& communicator() const { return communicator_; }
  int rank() const { return communicator_.rank(); }
  int size() const { return communicator_.size(); }
  // Activations between the parallel regions hold N / P contiguous rows of the N = B * T tokens.
  bool sequence_parallel() const { return sequence_parallel_ && size() > 1; }

  // The ranks that hold the same key and value head: `replicas` neighbours. Collective on first
  // use.
  const Communicator& replica_set(int replicas);

 private:
  const Communicator& communicator_;
  bool sequence_parallel_;
  std::map<int, std::unique_ptr<Communicator>> replica_sets_;
};

// This rank's share of `size` entries that divide evenly.
inline std::pair<std::int64_t, std::int64_t> even_share(std::int64_t size, int rank, int ranks) {
  POLYHEAD_CHECK(size % ranks == 0, "{} entries over {} ranks", size, ranks);
  return {size / ranks * rank, size / ranks * (rank + 1)};
}

}  // namespace polyhead
