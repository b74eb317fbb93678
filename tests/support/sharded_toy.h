// A handful of parameters with every kind of sharding, for tests of what goes between ranks and
// files.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "framework/parameters/parameter_store.h"

namespace polyhead::testing {

class ShardedToy {
 public:
  static constexpr std::int64_t kHidden = 6, kVocabulary = 7, kQueries = 8, kKeys = 4;
  static constexpr int kGroups = 2;

  // The slice of tensor-parallel rank `rank` of `ranks` (1, 2 or 4).
  ShardedToy(int rank, int ranks)
      : parameters_(make(rank, ranks)), store_(pointers(), DType::kF32, Device::kCpu) {}

  ParameterStore& store() { return store_; }

  // Fills a flat buffer with numbers that depend on (seed, name, global index) alone.
  void fill(Tensor flat, std::uint64_t seed) const {
    for (const Segment& segment : store_.segments()) {
      store_.view(flat, segment).copy_from(initial_value(*segment.parameter, seed, flat.dtype()));
    }
  }

 private:
  static std::vector<Parameter> make(int rank, int ranks) {
    const Initialization normal;
    const auto even = [&](std::string name, Shape shape, int dim) {
      const std::int64_t share = shape[dim] / ranks;
      return sharded_parameter(std::move(name), shape, dim, rank * share, (rank + 1) * share,
                               normal);
    };
    // Fewer groups than ranks: neighbours hold copies, of which the first is the owner.
    const int replicas = std::max(1, ranks / kGroups);
    const auto grouped = [&](std::string name, Shape shape) {
      const std::int64_t share = shape[0] * replicas / ranks;
      const std::int64_t begin = rank / replicas * share;
      Parameter parameter =
          sharded_parameter(std::move(name), shape, 0, begin, begin + share, normal);
      parameter.owner = rank % replicas == 0;
      return parameter;
    };
    // Padded: every rank has room for one row more than it may hold.
    const std::int64_t rows = (kVocabulary + ranks - 1) / ranks;
    const auto bound = [&](int r) { return std::min(kVocabulary, r * rows); };
    const std::string attention = "model.layers.0.self_attn.";
    return {
        sharded_parameter("model.embed_tokens.weight", {kVocabulary, kHidden}, 0, bound(rank),
                          bound(rank + 1), normal, rows + 1),
        even(attention + "q_proj.weight", {kQueries, kHidden}, 0),
        grouped(attention + "k_proj.weight", {kKeys, kHidden}),
        grouped(attention + "k_proj.bias", {kKeys}),
        even(attention + "o_proj.weight", {kHidden, kQueries}, 1),
        replicated_parameter("model.norm.weight", {kHidden}, rank, normal),
    };
  }

  std::vector<Parameter*> pointers() {
    std::vector<Parameter*> pointers;
    for (Parameter& parameter : parameters_) pointers.push_back(&parameter);
    return pointers;
  }

  std::vector<Parameter> parameters_;
  ParameterStore store_;
};

}  // namespace polyhead::testing
