// Matrix products by the BLAS.
#pragma once

#include <string>

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

// y = addend + x w^T. `addend` (M, N) has y's dtype and rows as far apart as y's.
void matmul_weight_onto(const Tensor& addend, const Tensor& x, const Tensor& weight, Tensor& y);

// Which of its library's algorithms a device takes for which product. Any one of them gives the
// same bits in every run, and different ones give different bits: ranks that hold copies of the
// same numbers, and runs that are to repeat each other, need the same choices. The CPU has no
// choice.
//
// Whether products that have no algorithm yet race the candidates, which is so at first, or take
// the library's first guess, which is the same in every process.
void set_matmul_measuring(Device device, bool on);
// All choices of this process so far, as text; empty where there are none to make.
std::string matmul_choices(Device device);
// Takes over what matmul_choices told another process. False, and nothing taken, if that ran
// another device or version of the library. Throws Error, naming `source`, if the text is not its.
bool adopt_matmul_choices(Device device, const std::string& choices, const std::string& source);

// What the start banner prints and a checkpoint records, e.g. "OpenBLAS 0.3.21 Haswell".
std::string blas_description();

}  // namespace polyhead::ops
