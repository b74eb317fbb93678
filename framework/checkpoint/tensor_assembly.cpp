#include "framework/checkpoint/tensor_assembly.h"

#include <cstring>

namespace polyhead {

TensorAssembly::TensorAssembly(const Communicator& world, const Communicator& tensor,
                               const ParameterStore& store)
    : tensor_(tensor) {
  std::vector<Slice> mine;
  for (const Segment& segment : store.segments()) {
    const Parameter& parameter = *segment.parameter;
    mine.push_back({parameter.owner, parameter.shard_begin, parameter.shard_end});
  }
  std::string message(mine.size() * sizeof(Slice), '\0');
  std::memcpy(message.data(), mine.data(), message.size());
  const std::vector<std::string> messages = tensor.all_gather_strings(message);
  for (const std::string& theirs : messages) {
    POLYHEAD_CHECK(theirs.size() == message.size(), "ranks hold different parameters");
    std::vector<Slice> slices(mine.size());
    std::memcpy(slices.data(), theirs.data(), theirs.size());
    for (std::size_t i = 0; i < slices.size(); ++i) {
      slices_[store.segments()[i].parameter->name].push_back(slices[i]);
    }
  }
  const std::string leads = world.rank() == 0 ? "leads" : "";
  for (const std::string& answer : tensor.all_gather_strings(leads)) takes_part_ |= !answer.empty();
}

Tensor TensorAssembly::assemble(const Parameter& parameter, const Tensor& local) const {
  if (!parameter.is_sharded()) return local;
  Shape stacked = parameter.local_shape;
  stacked[0] *= tensor_.size();
  Tensor gathered = Tensor::empty_like(local, stacked);
  tensor_.all_gather(local, gathered);

  Tensor whole = Tensor::empty_like(local, parameter.global_shape);
  std::int64_t assembled = 0;
  const std::int64_t rows = parameter.local_shape[0];
  const std::vector<Slice>& slices = slices_.at(parameter.name);
  for (int rank = 0; rank < tensor_.size(); ++rank) {
    const auto [owned, begin, end] = slices[static_cast<std::size_t>(rank)];
    if (!owned) continue;
    const Tensor part = gathered.row_slice(rank * rows, (rank + 1) * rows);
    if (parameter.shard_dim == 0) {
      whole.row_slice(begin, end).copy_from(part.row_slice(0, end - begin));
    } else {
      whole.column_slice(begin, end).copy_from(part.column_slice(0, end - begin));
    }
    assembled += end - begin;
  }
  POLYHEAD_CHECK(assembled == parameter.global_shape[parameter.shard_dim],
                 "{}: {} entries of dimension {} have an owner, not {}", parameter.name, assembled,
                 parameter.shard_dim, parameter.global_shape[parameter.shard_dim]);
  return whole;
}

}  // namespace polyhead
