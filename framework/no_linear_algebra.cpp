// Stands in for linear_algebra.cpp where LAPACK is absent.
#include "framework/linear_algebra.h"

namespace polyhead {
namespace {

[[noreturn]] void refuse(std::string_view name) {
  fail(
      "{}: this binary was built without LAPACK; install libopenblas-dev, or liblapack-dev beside "
      "another BLAS, and configure with -DPOLYHEAD_WITH_LAPACK=ON",
      name);
}

}  // namespace

bool has_linear_algebra() {
  return false;
}

SingularValueDecomposition singular_value_decomposition(const Tensor&, std::string_view name) {
  refuse(name);
}
SymmetricEigendecomposition symmetric_eigendecomposition(const Tensor&, std::string_view name) {
  refuse(name);
}
Tensor cholesky(const Tensor&, std::string_view name) {
  refuse(name);
}
Tensor solve_lower_triangular(const Tensor&, ops::Transpose, const Tensor&, std::string_view name) {
  refuse(name);
}

}  // namespace polyhead
