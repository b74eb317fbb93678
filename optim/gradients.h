// From the gradients that one rank's micro-batches left in its store to those of the global batch:
// sum, norm and clip factor. Once per optimizer step, never per micro-batch.
//
//   norm = sqrt(sum of the squares of all entries of all parameters)
//
// Each entry of the model counts once, on the rank that owns it, so the norm does not depend on how
// parameters are cut or copied.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/comm/communicator.h"
#include "framework/parameters/parameter_store.h"

namespace polyhead {

inline constexpr std::int64_t kGradientBucketBytes = 16 << 20;

// The sum over ranks, begun while the backward still runs. First the gradients of parameters with
// partial_over are summed over that group, then every gradient over the data-parallel ranks.
// Afterwards each entry is complete wherever a copy of it lies; on the CPU bitwise the same however
// the buckets are cut.
//
// The backward makes matrices' gradients final from the end of the flat buffer on. Whenever a
// bucket's bytes or more of them are, one all_reduce takes them beside the rest of the backward,
// behind one message for each group over which some are partial; finish() takes the rest, and the
// vectors', which lie in front. A bucket grows by whole layers, and ranks whose devices are not
// connected hold a copy of it on the host.
//
// Where the optimizer state is sharded over data_parallel, a bucket is reduced to the ranks in
// whose shards it lies: half the bytes, and entries outside this rank's shard stay this rank's own.
// Such reductions follow each other from rank to rank; where nothing runs beside the backward,
// finish() makes one reduce_scatter of everything instead. On a single data-parallel rank it does
// everything too.
class GradientSum {
 public:
  // `store` and `data_parallel` outlive the sum.
  GradientSum(ParameterStore& store, const Communicator& data_parallel,
              std::int64_t bucket_bytes = kGradientBucketBytes);

  // The gradients of `first` and of all parameters behind it in the store's order are final. Each
  // call names an earlier parameter than the one before.
  void add_final(const Parameter& first);
  // All are final, and the device's later work finds the sums.
  void finish();

 private:
  const Communicator* shard_over() const { return store_.shard_over(); }
  // Of everything from `begin` to the bucket before.
  void start_bucket(std::int64_t begin);

  ParameterStore& store_;
  const Communicator& data_parallel_;
  bool in_buckets_;
  std::int64_t bucket_bytes_;
  std::int64_t bucketed_from_;  // this and all behind is in buckets
  std::vector<PendingCollective> buckets_;
};

// The same in one go.
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
