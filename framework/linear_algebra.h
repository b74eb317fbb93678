// Decompositions of dense matrices on the host, by LAPACK.
//
// All matrices are row-major f64 tensors of rank 2 on the CPU; arguments may be strided views and
// are never changed, results are contiguous. Each call computes on the calling thread alone, so the
// bits do not depend on the number of threads. Throws Error, naming the matrix by `name`, where a
// number is not finite, where a matrix lacks the property that the call needs, and in a binary
// without LAPACK. Products are ops::matmul's (framework/ops/matmul.h).
#pragma once

#include <string_view>

#include "framework/ops/matmul.h"
#include "framework/tensor.h"

namespace polyhead {

// Whether this binary has LAPACK; without it every call below throws.
bool has_linear_algebra();

// a = u diag(values) vt, thin: with R = min(M, N) for a (M, N).
struct SingularValueDecomposition {
  Tensor u;       // (M, R), orthonormal columns
  Tensor values;  // (R), descending, none negative
  Tensor vt;      // (R, N), orthonormal rows
};
// Any shape and rank; the singular vectors of equal values are any orthonormal ones. About
// 4 M N R + 22 R^3 operations; memory for about six matrices of R x max(M, N).
SingularValueDecomposition singular_value_decomposition(const Tensor& a, std::string_view name);

// a = vectors^T diag(values) vectors.
struct SymmetricEigendecomposition {
  Tensor values;   // (N), ascending
  Tensor vectors;  // (N, N), row i belongs to values[i]
};
// a (N, N) symmetric, of which the lower triangle is read. About 9 N^3 operations; memory for three
// more matrices of its size.
SymmetricEigendecomposition symmetric_eigendecomposition(const Tensor& a, std::string_view name);

// The lower triangular l (N, N) with l l^T = a, zero above the diagonal; a is symmetric and
// positive definite, and its lower triangle is read. N^3 / 3 operations.
Tensor cholesky(const Tensor& a, std::string_view name);

// x (N, M) with op(l) x = b for a lower triangular l (N, N) without a zero on its diagonal, of
// which the part above the diagonal is not read. N^2 M operations.
Tensor solve_lower_triangular(const Tensor& l, ops::Transpose transpose, const Tensor& b,
                              std::string_view name);

}  // namespace polyhead
