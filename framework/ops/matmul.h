// Matrix products by the BLAS.
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

enum class Transpose { kNo, kYes };
enum class Accumulate { kNo, kYes };

// c = op(a) op(b), or c += with Accumulate::kYes. Tensors count as (rows, cols) matrices and may be
// column slices; op transposes the matrix. op(a) is (M, K), op(b) (K, N), c (M, N). a and b have
// one dtype, c that dtype or its accumulation dtype (f32 for bf16: gradients of weights).
// On the CPU the product is cut into blocks by its shape alone and each block goes to a
// single-threaded BLAS call, so the bits do not depend on the number of threads.
void matmul(const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
            Accumulate accumulate, Tensor& c);

// y = x w^T for a weight of shape (out, in): the forward pass of a linear layer.
inline void matmul_weight(const Tensor& x, const Tensor& weight, Tensor& y) {
  matmul(x, Transpose::kNo, weight, Transpose::kYes, Accumulate::kNo, y);
}

// What the start banner prints and a checkpoint records, e.g. "OpenBLAS 0.3.21 Haswell".
std::string blas_description();

}  // namespace polyhead::ops
