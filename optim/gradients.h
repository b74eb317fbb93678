// From the gradients that one rank's micro-batches left in its store to those of the global batch:
// sum, norm and clip factor. Once per optimizer step, never per micro-batch.
//
//   norm = sqrt(sum of the squares of all entries of all parameters)
//
// Each entry of the model counts once, on the rank that owns it, so the norm does not depend on how
// parameters are cut or copied.
#pragma once

#include <string>

#include "framework/comm/communicator.h"
#include "framework/parameters/parameter_store.h"

namespace polyhead {

// Sums the gradients of parameters with partial_over over that group, in one message a group, then
// every gradient over the data-parallel ranks, in buckets of at most 16 MiB. Afterwards each entry
// is complete wherever a copy of it lies.
//
// Where the optimizer state is sharded over data_parallel, one reduce_scatter in place takes the
// buckets' place: half the bytes, and entries outside this rank's shard stay this rank's own.
void sum_gradients(ParameterStore& store, const Communicator& data_parallel);

// The square of the global norm, (1) f64 on the store's device, the same on all tensor-parallel
// ranks; call it after sum_gradients. Squares are summed in f64 in a fixed order, then over the
// ranks, and where the optimizer state is sharded over the data-parallel ranks too.
Tensor squared_gradient_norm(const ParameterStore& store, const Communicator& tensor_parallel);

// The first parameter whose gradient holds a NaN or an infinity; null where all are finite. Before
// sum_gradients this tells which rank made it, afterwards they all have it.
const Parameter* first_non_finite_gradient(const ParameterStore& store);

// All ranks' problems as one sentence, the same on all ranks ("rank 1: ...; rank 3: ..."); empty if
// no rank has one. Costs one number a rank as long as there is none.
std::string agree_on_problems(const Communicator& world, const std::string& mine);

}  // namespace polyhead
