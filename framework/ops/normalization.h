// RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over the last dimension.
//
// Statistics and the gradients of weights have the accumulation dtype of x (f32 for bf16). Tensors
// may be column slices. Each function is one pass over its tensors.
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

// What multiplies the normalised value: the weight w, or 1 + w as in Gemma ("zero-centered gamma").
enum class NormWeight { kPlain, kOnePlus };

// The sum that enters the residual stream before a norm: sum = x + addend, y = norm(sum). Without
// an addend (both empty) y = norm(x).
struct Residual {
  Tensor addend;  // (N, D)
  Tensor sum;     // (N, D), written; may be x or addend
};

// y = x / sqrt(mean(x^2) + epsilon) * weight. y may be x.
void rms_norm_forward(const Tensor& x,       // (N, D)
                      const Tensor& weight,  // (D)
                      NormWeight form, double epsilon, Residual residual,
                      Tensor& y,      // (N, D)
                      Tensor& rstd);  // (N), for backward
// Remakes y from the norm's input x and rstd, bitwise as forward wrote it.
void rms_norm_apply(const Tensor& x, const Tensor& weight, NormWeight form, const Tensor& rstd,
                    Tensor& y);
// x is the norm's input. dx = the gradient through the norm + dresidual, the gradient that reaches
// x beside it (empty: none).
void rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, NormWeight form,
                       const Tensor& rstd, const Tensor& dresidual,
                       Tensor& dx,        // (N, D), written; may be dy or dresidual
                       Tensor& dweight);  // (D), accumulated

// y = (x - mean) / sqrt(var + epsilon) * weight + bias.
void layer_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
                        Residual residual, Tensor& y,
                        Tensor& statistics);  // (N, 2): mean and rstd
void layer_norm_apply(const Tensor& x, const Tensor& weight, const Tensor& bias,
                      const Tensor& statistics, Tensor& y);
void layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& statistics, const Tensor& dresidual, Tensor& dx,
                         Tensor& dweight, Tensor& dbias);

}  // namespace polyhead::ops
