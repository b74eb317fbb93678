#include "optim/gradients.h"

#include <algorithm>

#include "framework/ops/elementwise.h"
#include "optim/segment_runs.h"

namespace polyhead {
namespace {

// Sums the gradients in `range` of parameters that are partial over `group`, packed into one
// message.
void sum_over(const Communicator& group, const FlatRange& range, ParameterStore& store) {
  std::vector<Tensor> parts;
  std::int64_t size = 0;
  for (const auto& run :
       segment_runs_in(range, store, [](const Parameter& p) { return p.partial_over; })) {
    if (run.property != &group) continue;
    parts.push_back(store.grads({run.begin, run.end}));
    size += parts.back().numel();
  }
  Tensor packed = Tensor::empty_like(parts.front(), {size});
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

// The same for every group over which some are partial.
void sum_partial(const FlatRange& range, ParameterStore& store) {
  std::vector<const Communicator*> groups;  // in the order of the parameters: the same on all ranks
  for (const auto& run :
       segment_runs_in(range, store, [](const Parameter& p) { return p.partial_over; })) {
    const Communicator* group = run.property;
    if (group && std::find(groups.begin(), groups.end(), group) == groups.end()) {
      groups.push_back(group);
      sum_over(*group, range, store);
    }
  }
}

}  // namespace

GradientSum::GradientSum(ParameterStore& store, const Communicator& data_parallel,
                         std::int64_t bucket_bytes)
    : store_(store),
      data_parallel_(data_parallel),
      in_buckets_(data_parallel.size() > 1 &&
                  (!shard_over() || shard_over()->runs_beside(store.values().device()))),
      bucket_bytes_(bucket_bytes),
      bucketed_from_(store.size()) {}

void GradientSum::add_final(const Parameter& first) {
  if (!in_buckets_) return;
  const auto& segments = store_.segments();
  auto segment = std::find_if(segments.begin(), segments.end(), [&](const Segment& candidate) {
    return candidate.parameter == &first;
  });
  POLYHEAD_CHECK(segment != segments.end(), "{} is not in the store", first.name);
  // Vectors lie in front of all matrices and are summed with the last of these.
  segment = std::find_if(segment, segments.end(), [](const Segment& candidate) {
    return !candidate.parameter->is_vector();
  });
  if (segment == segments.end()) return;
  POLYHEAD_CHECK(segment->begin < bucketed_from_, "the gradient of {} is final twice", first.name);
  const std::int64_t size = bucketed_from_ - segment->begin;
  if (size * static_cast<std::int64_t>(size_of(first.grad.dtype())) >= bucket_bytes_) {
    start_bucket(segment->begin);
  }
}

void GradientSum::finish() {
  if (shard_over() && !in_buckets_) {
    const Tensor grads = store_.grads();
    sum_partial({0, grads.numel()}, store_);
    Tensor mine = grads.row_slice(store_.shard().begin, store_.shard().end);
    shard_over()->reduce_scatter(grads, mine);
    return;
  }
  if (bucketed_from_ > 0) start_bucket(0);
  for (PendingCollective& bucket : buckets_) bucket.wait();
}

void GradientSum::start_bucket(std::int64_t begin) {
  const FlatRange bucket{begin, bucketed_from_};
  sum_partial(bucket, store_);
  if (shard_over()) {
    for (int rank = 0; rank < shard_over()->size(); ++rank) {
      const FlatRange part = overlap(bucket, store_.shard(rank));
      if (part.size() == 0) continue;
      Tensor grads = store_.grads(part);
      buckets_.push_back(shard_over()->start_reduce(grads, rank));
    }
  } else {
    Tensor grads = store_.grads(bucket);
    buckets_.push_back(data_parallel_.start_all_reduce(grads));
  }
  bucketed_from_ = begin;
}

void sum_gradients(ParameterStore& store, const Communicator& data_parallel) {
  GradientSum(store, data_parallel).finish();
}

Tensor squared_gradient_norm(const ParameterStore& store, const Communicator& tensor_parallel) {
  Tensor squares = Tensor::zeros({1}, DType::kF64, store.grads().device());
  for (const auto& run : segment_runs_in_shard(store, [](const Parameter& p) { return p.owner; })) {
    if (run.property) ops::add_sum_squares(store.grads({run.begin, run.end}), squares);
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
