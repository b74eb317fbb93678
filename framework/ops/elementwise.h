// Element by element: fills, sums, scaling, biases, and the reductions over whole tensors.
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

void fill(double value, Tensor& x);
void scale(double factor, Tensor& x);                   // x *= factor
void add(const Tensor& a, const Tensor& b, Tensor& y);  // y = a + b; y may be a or b
void add_to(const Tensor& x, Tensor& y);                // y += x

// y (N, C) += bias (C) on every row, in place.
void add_bias(const Tensor& bias, Tensor& y);
// dbias (C) += column sums of dy (N, C).
void bias_backward(const Tensor& dy, Tensor& dbias);

// y = cap * tanh(x / cap), in place; backward: dx = dy (1 - (y / cap)^2), in place on dy.
void softcap_forward(double cap, Tensor& x);
void softcap_backward(const Tensor& y, double cap, Tensor& dy);

// total (1) f64 += factor * the sum of x, or the sum of its squares, added in f64 in a fixed order.
// NaN and infinity stay.
void add_sum(double factor, const Tensor& x, Tensor& total);
void add_sum_squares(const Tensor& x, Tensor& total);
// What gradients are multiplied with so that their norm sqrt(squares) is at most max_norm (0: no
// limit): max_norm / (norm + 1e-6), at most 1; NaN where the norm is not finite. Both (1) f64.
void clip_scale(const Tensor& squares, double max_norm, Tensor& scale);
// True if every element is finite. The host waits for the answer.
bool all_finite(const Tensor& x);

}  // namespace polyhead::ops
