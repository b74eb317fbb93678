#include "layers/tensor_parallel.h"

namespace polyhead {

std::pair<std::int64_t, std::int64_t> even_share(std::int64_t size, int rank, int ranks) {
  POLYHEAD_CHECK(size % ranks == 0, "{} entries over {} ranks", size, ranks);
  return {size / ranks * rank, size / ranks * (rank + 1)};
}

Tensor TensorParallel::enter(const Tensor& x) const {
  if (!sequence_parallel()) return x;
  Tensor whole = Tensor::empty_like(x, {x.rows() * size(), x.cols()});
  communicator_.all_gather(x, whole);
  return whole;
}

Tensor TensorParallel::leave(Tensor partial) const {
  if (!sequence_parallel()) {
    communicator_.all_reduce(partial);
    return partial;
  }
  const auto [begin, end] = token_share(partial.rows());
  Tensor rows = Tensor::empty_like(partial, {end - begin, partial.cols()});
  communicator_.reduce_scatter(partial, rows);
  return rows;
}

std::pair<std::int64_t, std::int64_t> TensorParallel::token_share(std::int64_t tokens) const {
  if (!sequence_parallel()) return {0, tokens};
  return even_share(tokens, rank(), size());
}

const Communicator& TensorParallel::replica_set(int replicas) {
  std::unique_ptr<Communicator>& set = replica_sets_[replicas];
  if (!set) set = communicator_.split(rank() / replicas);
  return *set;
}

}  // namespace polyhead
