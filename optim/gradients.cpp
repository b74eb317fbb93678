#include "optim/gradients.h"

#include <algorithm>

#include "framework/ops/elementwise.h"
#include "optim/segment_runs.h"

namespace polyhead {
namespace {

constexpr std::int64_t kBucketBytes = 16 << 20;

// Sums the gradients of all parameters that are partial over `group`, packed into one message.
void sum_over(const Communicator& group, ParameterStore& store) {
  std::vector<Tensor> parts;
  std::int64_t size = 0;
  for (const auto& run : segment_runs(store, [](const Parameter& p) { return p.partial_over; })) {
    if (run.property != &group) continue;
    parts.push_back(store.grads().row_slice(run.begin, run.end));
    size += parts.back().numel();
  }
  Tensor packed = Tensor::empty_like(store.grads(), {size});
  const auto copy_each = [&](auto&& copy) {
    std::int64_t offset = 0;
    for (Tensor& part : parts) {
      Tensor place = packed.row_slice(offset, offset + part.numel());
      copy(part, place);
      offset += part.numel();
    }
  };
  copy_each([](Tensor& part, Tensor& place) { place.copy_from(part); });
  group.all_reduce(packed);
  copy_each([](Tensor& part, Tensor& place) { part.copy_from(place); });
}

}  // namespace

void sum_gradients(ParameterStore& store, const Communicator& data_parallel) {
  std::vector<const Communicator*> groups;  // in the order of the parameters: the same on all ranks
  for (const Segment& segment : store.segments()) {
    const Communicator* group = segment.parameter->partial_over;
    if (group && std::find(groups.begin(), groups.end(), group) == groups.end()) {
      groups.push_back(group);
      sum_over(*group, store);
    }
  }
  Tensor& grads = store.grads();
  if (store.shard_over()) {
    Tensor mine = grads.row_slice(store.shard().begin, store.shard().end);
    store.shard_over()->reduce_scatter(grads, mine);
    return;
  }
  const std::int64_t bucket = kBucketBytes / static_cast<std::int64_t>(size_of(grads.dtype()));
  for (std::int64_t begin = 0; begin < grads.numel(); begin += bucket) {
    Tensor slice = grads.row_slice(begin, std::min(begin + bucket, grads.numel()));
    data_parallel.all_reduce(slice);
  }
}

Tensor squared_gradient_norm(const ParameterStore& store, const Communicator& tensor_parallel) {
  Tensor squares = Tensor::zeros({1}, DType::kF64, store.grads().device());
  for (const auto& run : segment_runs_in_shard(store, [](const Parameter& p) { return p.owner; })) {
    if (run.property) ops::add_sum_squares(store.grads().row_slice(run.begin, run.end), squares);
  }
  tensor_parallel.all_reduce(squares);
  if (store.shard_over()) store.shard_over()->all_reduce(squares);
  return squares;
}

const Parameter* first_non_finite_gradient(const ParameterStore& store) {
  if (ops::all_finite(store.grads())) return nullptr;
  const auto& segments = store.segments();
  return std::find_if(
             segments.begin(), segments.end(),
             [](const Segment& segment) { return !ops::all_finite(segment.parameter->grad); })
      ->parameter;
}

std::string agree_on_problems(const Communicator& world, const std::string& mine) {
  Tensor troubled = Tensor::zeros({1}, DType::kI32);
  troubled.data<std::int32_t>()[0] = mine.empty() ? 0 : 1;
  world.all_reduce(troubled, Reduction::kMax);
  if (troubled.data<std::int32_t>()[0] == 0) return "";
  std::string all;
  const std::vector<std::string> problems = world.all_gather_strings(mine);
  for (std::size_t rank = 0; rank < problems.size(); ++rank) {
    if (problems[rank].empty()) continue;
    all += fmt::format("{}rank {}: {}", all.empty() ? "" : "; ", rank, problems[rank]);
  }
  return all;
}

}  // namespace polyhead
