// RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over the last dimension.
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

// What multiplies the normalised value: the weight w, or 1 + w as in Gemma ("zero-centered gamma").
enum class NormWeight { kPlain, kOnePlus };

// y = x / sqrt(mean(x^2) + epsilon) * weight. Tensors may be column slices. x and y may be one.
void rms_norm_forward(const Tensor& x,       // (N, D)
                      const Tensor& weight,  // (D)
                      NormWeight form, double epsilon,
                      Tensor& y,      // (N, D)
                      Tensor& rstd);  // (N), for backward
// Remakes y from x and rstd, bitwise as forward wrote it.
void rms_norm_apply(const Tensor& x, const Tensor& weight, NormWeight form, const Tensor& rstd,
                    Tensor& y);
void rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, NormWeight form,
                       const Tensor& rstd,
                       Tensor& dx,        // (N, D), written; may be dy
                       Tensor& dweight);  // (D), accumulated

// y = (x - mean) / sqrt(var + epsilon) * weight + bias.
void layer_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
                        Tensor& y,
                        Tensor& statistics);  // (N, 2): mean and rstd
void layer_norm_apply(const Tensor& x, const Tensor& weight, const Tensor& bias,
                      const Tensor& statistics, Tensor& y);
void layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& statistics, Tensor& dx, Tensor& dweight, Tensor& dbias);

}  // namespace polyhead::ops
