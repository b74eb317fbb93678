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

// Sum of squares in f64, added in a fixed order.
double sum_squares(const Tensor& x);
// True if every element is finite.
bool all_finite(const Tensor& x);

}  // namespace polyhead::ops
