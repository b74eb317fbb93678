#include "framework/linear_algebra.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "framework/ops/blas.h"

extern "C" {
void dgesdd_(const char* jobz, const int* m, const int* n, double* a, const int* lda, double* s,
             double* u, const int* ldu, double* vt, const int* ldvt, double* work, const int* lwork,
             int* iwork, int* info);
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w,
             double* work, const int* lwork, int* iwork, const int* liwork, int* info);
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
}

namespace polyhead {
namespace {

// LAPACK reads columns where we store rows, so it sees every matrix transposed: it is told so by
// swapped dimensions and by "U", the triangle that is our lower one.
constexpr const char* kLower = "U";

int dimension(std::int64_t size, std::string_view name) {
  require(size >= 1 && size <= std::numeric_limits<int>::max(),
          "{}: {} rows or columns; LAPACK takes 1 to {}", name, size,
          std::numeric_limits<int>::max());
  return static_cast<int>(size);
}

// A contiguous copy for LAPACK to overwrite.
Tensor checked_copy(const Tensor& a, std::string_view name) {
  POLYHEAD_CHECK(a.shape().rank() == 2 && a.dtype() == DType::kF64 && a.device() == Device::kCpu,
                 "{}: {} of {}", name, a.shape().to_string(), name_of(a.dtype()));
  ops::make_blas_single_threaded();
  Tensor copy = a.clone();
  const double* values = copy.data<double>();
  require(std::all_of(values, values + copy.numel(), [](double x) { return std::isfinite(x); }),
          "{}: holds a number that is not finite", name);
  return copy;
}

int checked_square(const Tensor& a, std::string_view name) {
  POLYHEAD_CHECK(a.rows() == a.cols(), "{}: {} is not square", name, a.shape().to_string());
  return dimension(a.rows(), name);
}

// LAPACK answers a first call with the size of the scratch memory that it wants, as a double.
int work_size(double answer) {
  return static_cast<int>(answer);
}

}  // namespace

bool has_linear_algebra() {
  return true;
}

SingularValueDecomposition singular_value_decomposition(const Tensor& a, std::string_view name) {
  Tensor copy = checked_copy(a, name);
  const int rows = dimension(a.rows(), name), columns = dimension(a.cols(), name);
  const int rank = std::min(rows, columns);
  SingularValueDecomposition result{Tensor::empty({rows, rank}, DType::kF64),
                                    Tensor::empty({rank}, DType::kF64),
                                    Tensor::empty({rank, columns}, DType::kF64)};
  std::vector<int> integers(static_cast<std::size_t>(rank) * 8);
  int info = 0;
  // a^T = v diag(values) u^T: what LAPACK calls u is our v, and stored by columns our vt.
  const auto call = [&](double* work, int size) {
    dgesdd_("S", &columns, &rows, copy.data<double>(), &columns, result.values.data<double>(),
            result.vt.data<double>(), &columns, result.u.data<double>(), &rank, work, &size,
            integers.data(), &info);
  };
  double wanted = 0;
  call(&wanted, -1);
  std::vector<double> work(static_cast<std::size_t>(work_size(wanted)));
  call(work.data(), work_size(wanted));
  require(info == 0, "{}: the singular value decomposition did not converge (dgesdd: {})", name,
          info);
  return result;
}

SymmetricEigendecomposition symmetric_eigendecomposition(const Tensor& a, std::string_view name) {
  const int size = checked_square(a, name);
  SymmetricEigendecomposition result{Tensor::empty({size}, DType::kF64), checked_copy(a, name)};
  int info = 0;
  const auto call = [&](double* work, int work_length, int* integers, int integers_length) {
    dsyevd_("V", kLower, &size, result.vectors.data<double>(), &size, result.values.data<double>(),
            work, &work_length, integers, &integers_length, &info);
  };
  double wanted = 0;
  int wanted_integers = 0;
  call(&wanted, -1, &wanted_integers, -1);
  std::vector<double> work(static_cast<std::size_t>(work_size(wanted)));
  std::vector<int> integers(static_cast<std::size_t>(wanted_integers));
  call(work.data(), work_size(wanted), integers.data(), wanted_integers);
  require(info == 0, "{}: the eigendecomposition did not converge (dsyevd: {})", name, info);
  return result;
}

Tensor cholesky(const Tensor& a, std::string_view name) {
  const int size = checked_square(a, name);
  Tensor lower = checked_copy(a, name);
  int info = 0;
  dpotrf_(kLower, &size, lower.data<double>(), &size, &info);
  require(info == 0, "{}: is not positive definite (its leading minor of order {} is not)", name,
          info);
  for (std::int64_t row = 0; row < size; ++row) {
    double* begin = lower.data<double>() + row * size;
    std::fill(begin + row + 1, begin + size, 0.0);
  }
  return lower;
}

Tensor solve_lower_triangular(const Tensor& l, ops::Transpose transpose, const Tensor& b,
                              std::string_view name) {
  const int size = checked_square(l, name);
  POLYHEAD_CHECK(b.rows() == size, "{}: {} rows against {}", name, b.rows(), size);
  const Tensor lower = checked_copy(l, name);
  for (std::int64_t i = 0; i < size; ++i) {
    require(lower.data<double>()[i * size + i] != 0, "{}: is singular (zero {} on its diagonal)",
            name, i);
  }
  Tensor x = checked_copy(b, name);
  const int columns = dimension(x.cols(), name);
  cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower,
              transpose == ops::Transpose::kYes ? CblasTrans : CblasNoTrans, CblasNonUnit, size,
              columns, 1.0, lower.data<double>(), size, x.data<double>(), columns);
  return x;
}

}  // namespace polyhead
