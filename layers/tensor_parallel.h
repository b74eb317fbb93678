// The borders of tensor parallelism.
//
// Between the parallel regions the activations are (N, D), the same on all ranks, or with sequence
// parallelism this rank's N / P contiguous rows of the flattened N = B * T tokens. A region
// computes on all N rows with a share of the heads, features or vocabulary. Entering and leaving
// are each other's backward ("f" and "g" of Shoeybi et al. 2019; g and its conjugate of Korthikanti
// et al. 2022):
//
//            forward                                   backward
//   enter    nothing | all-gather of rows              leave
//   leave    all-reduce | reduce-scatter of rows       enter
//
// What begins with start_ runs beside the computation (framework/comm/communicator.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "framework/comm/communicator.h"

namespace polyhead {

// A tensor on its way over a border.
class Crossing {
 public:
  Crossing() = default;
  Crossing(Tensor tensor, PendingCollective pending)
      : tensor_(std::move(tensor)), pending_(std::move(pending)) {}

  // The tensor, arrived; once.
  Tensor wait() {
    pending_.wait();
    return std::move(tensor_);
  }

 private:
  Tensor tensor_;
  PendingCollective pending_;
};

class TensorParallel {
 public:
  TensorParallel(const Communicator& communicator, bool sequence_parallel)
      : communicator_(communicator), sequence_parallel_(sequence_parallel) {}

  const Communicator& communicator() const { return communicator_; }
  int rank() const { return communicator_.rank(); }
  int size() const { return communicator_.size(); }
  bool sequence_parallel() const { return sequence_parallel_ && size() > 1; }

  // All rows (N, C) from what lies between the regions: x itself, or a gathered copy.
  [[nodiscard]] Crossing start_entering(const Tensor& x) const;
  Tensor enter(const Tensor& x) const { return start_entering(x).wait(); }
  // The sum over ranks of the partial (N, C): in place, or this rank's rows of it.
  [[nodiscard]] Crossing start_leaving(Tensor partial) const;
  Tensor leave(Tensor partial) const { return start_leaving(std::move(partial)).wait(); }
  // The rows of a tensor between the regions that this rank holds, of N.
  std::pair<std::int64_t, std::int64_t> token_share(std::int64_t tokens) const;

  // The group over which parameters between the regions hold partial gradients: with sequence
  // parallelism each rank saw only its tokens; otherwise every copy is complete.
  const Communicator* partial_between_regions() const {
    return sequence_parallel() ? &communicator_ : nullptr;
  }
  // The ranks that hold the same key and value head: `replicas` neighbours. Collective on first
  // use.
  const Communicator& replica_set(int replicas);

 private:
  const Communicator& communicator_;
  bool sequence_parallel_;
  std::map<int, std::unique_ptr<Communicator>> replica_sets_;
};

// This rank's share [begin, end) of `size` entries that divide evenly.
std::pair<std::int64_t, std::int64_t> even_share(std::int64_t size, int rank, int ranks);

}  // namespace polyhead
