#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "framework/linear_algebra.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

TEST(NoLinearAlgebra, NamesTheFlag) {
  EXPECT_FALSE(has_linear_algebra());
  const Tensor a = Tensor::zeros({2, 2}, DType::kF64);
  for (const std::string& error :
       {testing::error_of([&] { singular_value_decomposition(a, "values"); }),
        testing::error_of([&] { cholesky(a, "values"); })}) {
    EXPECT_THAT(error, ::testing::HasSubstr("values: this binary was built without LAPACK"));
    EXPECT_THAT(error, ::testing::HasSubstr("-DPOLYHEAD_WITH_LAPACK=ON"));
  }
}

}  // namespace
}  // namespace polyhead
