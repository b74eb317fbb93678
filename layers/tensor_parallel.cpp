#include "layers/tensor_parallel.h"

namespace polyhead {

std::pair<std::int64_t, std::int64_t> even_share(std::int64_t size, int rank, int ranks) {
  POLYHEAD_CHECK(size % ranks == 0, "{} entries over {} ranks", size, ranks);
  return {size / ranks * rank, size / ranks * (rank + 1)};
}

Crossing TensorParallel::start_entering(const Tensor& x) const {
  if (!sequence_parallel()) return {x, {}};
  Tensor whole = Tensor::empty_like(x, {x.rows() * size(), x.cols()});
  return {whole, communicator_.start_all_gather(x, whole)};
}

Crossing TensorParallel::start_leaving(Tensor partial) const {
  if (!sequence_parallel()) return {partial, communicator_.start_all_reduce(partial)};
  const auto [begin, end] = token_share(partial.rows());
  Tensor rows = Tensor::empty_like(partial, {end - begin, partial.cols()});
  return {rows, communicator_.start_reduce_scatter(partial, rows)};
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
