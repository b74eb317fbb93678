#include "layers/conversion/latent_layer.h"

namespace polyhead {
namespace {

const double* row_of(const Tensor& matrix, std::int64_t row) {
  return matrix.data<double>() + row * matrix.row_stride();
}

void check_rows(const Tensor& source, std::int64_t source_row, const Tensor& target,
                std::int64_t target_row) {
  POLYHEAD_CHECK(
      source_row < source.rows() && target_row < target.rows() && source.cols() == target.cols(),
      "row {} of {} to row {} of {}", source_row, source.shape().to_string(), target_row,
      target.shape().to_string());
}

}  // namespace

GroupedHeads grouped_heads(const ModelConfig& config) {
  return {config.num_attention_heads, config.groups(), config.head_dim(), rotary_dim(config)};
}

void copy_row(const Tensor& source, std::int64_t source_row, double factor, Tensor& target,
              std::int64_t target_row) {
  check_rows(source, source_row, target, target_row);
  const double* const from = row_of(source, source_row);
  double* const to = target.data<double>() + target_row * target.row_stride();
  for (std::int64_t col = 0; col < source.cols(); ++col) to[col] = from[col] * factor;
}

void add_row(const Tensor& source, std::int64_t source_row, double factor, Tensor& target,
             std::int64_t target_row) {
  check_rows(source, source_row, target, target_row);
  const double* const from = row_of(source, source_row);
  double* const to = target.data<double>() + target_row * target.row_stride();
  for (std::int64_t col = 0; col < source.cols(); ++col) to[col] += from[col] * factor;
}

}  // namespace polyhead
