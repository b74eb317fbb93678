// Finds copies of one tensor that have drifted apart between ranks.
//
// Copies start equal and receive equal updates, so they stay bitwise equal unless a reduction was
// forgotten or a machine computes wrongly; either ruins a run unseen. Cost: one pass over the local
// memory (XXH3-128) and one gather of 16 bytes per tensor and rank.
#pragma once

#include <vector>

#include "framework/comm/communicator.h"
#include "framework/parameters/parameter_store.h"

namespace polyhead {

// A flat buffer with the layout of a ParameterStore, e.g. {"exp_avg", moment}.
struct NamedState {
  std::string name;
  Tensor flat;  // (store size), or (shard size) where optimizer state is sharded
};

// Any two ranks of `world` that hold the same entries of a parameter, by tensor or by data
// parallelism, must hold the same bits in each of `flats`. Otherwise all ranks throw the same
// Error: the tensor, and the ranks that differ from the most frequent content. Of a sharded buffer
// the ranks with the same shard are compared, which only tensor parallelism makes. Collective.
void check_replicas(const Communicator& world, const ParameterStore& store,
                    const std::vector<NamedState>& flats);

}  // namespace polyhead
