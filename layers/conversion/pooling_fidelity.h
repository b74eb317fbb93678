// What pooling does to the keys and values of one layer.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/tensor.h"

namespace polyhead {

// Of the projections of keys or of values. Means over groups; with one member a group the cosines
// are 1.
struct ProjectionFidelity {
  // sqrt(sum ||R_m W_m - W_g||^2 / sum ||W_m||^2) over all members m, in the norm of the metric:
  // with the covariance of the inputs, the relative error of the keys or values themselves.
  double relative_error = 0;
  double cosine_before = 1;  // between the members of a group, all pairs; in the same metric
  double cosine_after = 1;   // once they are aligned
  double norm_ratio = 1;     // of the group's Frobenius norm to the mean of its members'
};

struct PoolingFidelity {
  ProjectionFidelity keys, values;
  std::int64_t aligned_key_dimensions = 0;  // that alignment was free to turn
};

// `members` (source groups * head_dim, D) and `pooled` (target groups * head_dim, D), f64, a bias
// as the last column; `rotations` aligned each source group before it was pooled, none: not at all.
// `metric` (D, D), empty: the identity.
ProjectionFidelity projection_fidelity(const Tensor& members, const std::vector<Tensor>& rotations,
                                       const Tensor& pooled, std::int64_t head_dim,
                                       const Tensor& metric);

}  // namespace polyhead
