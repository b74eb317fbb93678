// Projections of heads as matrices of f64, and back.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/tensor.h"

namespace polyhead {

// A copy in f64, of f64, f32 or bf16; contiguous.
Tensor exact_copy(const Tensor& x);
// A copy of an f64 tensor in f64, f32 or bf16, rounded to the nearest.
Tensor rounded_copy(const Tensor& exact, DType dtype);

// (rows, D) and (rows) to (rows, D + 1): the bias is the weight of an input that is always 1. An
// empty bias adds no column. f64.
Tensor with_bias(const Tensor& weight, const Tensor& bias);

// Every head's rows of x (heads * d, D) or (heads * d), multiplied from the left by the (d, d)
// matrix of the group it belongs to: consecutive heads share one. f64.
Tensor rotated_rows(const Tensor& x, const std::vector<Tensor>& rotations);
// Every head's columns of x (D, heads * d), multiplied from the right by the transposed matrix.
Tensor rotated_columns(const Tensor& x, const std::vector<Tensor>& rotations);

// tr(w C w^T), where an empty `metric` C stands for the identity. f64.
double squared_norm(const Tensor& w, const Tensor& metric);
// w C w^T, (rows, rows).
Tensor inner_products(const Tensor& w, const Tensor& metric);

}  // namespace polyhead
