#include "layers/conversion/pooling_fidelity.h"

#include <cmath>

#include "framework/error.h"
#include "layers/conversion/head_alignment.h"
#include "layers/conversion/head_tensors.h"

namespace polyhead {
namespace {

double ratio(double numerator, double denominator, double otherwise) {
  return denominator > 0 ? numerator / denominator : otherwise;
}

double mean_cosine(const Tensor& group, std::int64_t members, const Tensor& metric) {
  if (members == 1) return 1;
  const Tensor products = inner_products(group, metric);
  double sum = 0;
  for (std::int64_t m = 0; m < members; ++m) {
    for (std::int64_t n = 0; n < m; ++n) {
      sum += ratio(inner_product(products, members, m, n),
                   std::sqrt(inner_product(products, members, m, m) *
                             inner_product(products, members, n, n)),
                   0);
    }
  }
  return 2 * sum / static_cast<double>(members * (members - 1));
}

Tensor difference(const Tensor& a, const Tensor& b) {
  Tensor result = a.clone();
  const Tensor subtracted = b.clone();
  for (std::int64_t i = 0; i < result.numel(); ++i) {
    result.data<double>()[i] -= subtracted.data<double>()[i];
  }
  return result;
}

}  // namespace

ProjectionFidelity projection_fidelity(const Tensor& members, const std::vector<Tensor>& rotations,
                                       const Tensor& pooled, std::int64_t head_dim,
                                       const Tensor& metric) {
  const std::int64_t groups = pooled.rows() / head_dim, rows = members.rows() / groups;
  const std::int64_t count = rows / head_dim;
  POLYHEAD_CHECK(groups * count * head_dim == members.rows(), "{} pooled to {}",
                 members.shape().to_string(), pooled.shape().to_string());
  const Tensor aligned = rotations.empty() ? members : rotated_rows(members, rotations);
  ProjectionFidelity fidelity{0, 0, 0, 0};
  double errors = 0, squares = 0;
  for (std::int64_t group = 0; group < groups; ++group) {
    const Tensor before = members.row_slice(group * rows, (group + 1) * rows);
    const Tensor after = aligned.row_slice(group * rows, (group + 1) * rows);
    const Tensor common = pooled.row_slice(group * head_dim, (group + 1) * head_dim);
    double norms = 0;
    for (std::int64_t m = 0; m < count; ++m) {
      const Tensor member = after.row_slice(m * head_dim, (m + 1) * head_dim);
      errors += squared_norm(difference(member, common), metric);
      squares += squared_norm(member, metric);
      norms += std::sqrt(squared_norm(member, {}));
    }
    const auto share = static_cast<double>(groups);
    fidelity.cosine_before += mean_cosine(before, count, metric) / share;
    fidelity.cosine_after += mean_cosine(after, count, metric) / share;
    fidelity.norm_ratio +=
        ratio(static_cast<double>(count) * std::sqrt(squared_norm(common, {})), norms, 1) / share;
  }
  fidelity.relative_error = std::sqrt(ratio(errors, squares, 0));
  return fidelity;
}

}  // namespace polyhead
