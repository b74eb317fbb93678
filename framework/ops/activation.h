// Activations of the MLP, plain and gated.
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

enum class Activation {
  kSwiglu,    // silu(gate) * up            (Shazeer 2020)
  kGeglu,     // gelu_tanh(gate) * up       (Shazeer 2020; Gemma's tanh form)
  kGeluTanh,  // gelu, tanh approximation   (Hendrycks and Gimpel 2016; GPT-2)
  kGelu,      // gelu, exact erf form
};
constexpr bool is_gated(Activation activation) {
  return activation == Activation::kSwiglu || activation == Activation::kGeglu;
}

// x is [gate | up] (N, 2F) for gated activations and (N, F) otherwise; y is (N, F).
void activation_forward(const Tensor& x, Activation activation, Tensor& y);
// dx has x's shape, written; may be x itself.
void activation_backward(const Tensor& dy, const Tensor& x, Activation activation, Tensor& dx);

}  // namespace polyhead::ops
