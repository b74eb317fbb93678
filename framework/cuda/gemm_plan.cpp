#include "framework/cuda/gemm_plan.h"

#include <array>
#include <bit>
#include <utility>

#include "framework/cuda/context.h"
#include "framework/error.h"

namespace polyhead::cuda {
namespace {

constexpr int kFullAlignment = 16;

cudaDataType_t cuda_type(DType dtype) {
  return dtype == DType::kBf16 ? CUDA_R_16BF : CUDA_R_32F;
}

}  // namespace

std::string GemmProblem::to_string() const {
  std::string text(name_of(input));
  if (output != input) text += fmt::format("->{}", name_of(output));
  text += fmt::format(" {}{} {}x{}x{}{}", transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', rows,
                      columns, depth, accumulate ? " +=" : "");
  if (stride_a != (transpose_a ? rows : depth) || stride_b != (transpose_b ? depth : columns) ||
      stride_c != columns) {
    text += fmt::format(" stride {} {} {}", stride_a, stride_b, stride_c);
  }
  if ((alignment_a & alignment_b & alignment_c) != kFullAlignment) {
    text += fmt::format(" align {} {} {}", alignment_a, alignment_b, alignment_c);
  }
  return text;
}

std::size_t GemmProblemHash::operator()(const GemmProblem& problem) const {
  const auto flags = static_cast<std::int64_t>(problem.input) << 8 |
                     static_cast<std::int64_t>(problem.output) << 4 | problem.transpose_a << 2 |
                     problem.transpose_b << 1 | static_cast<std::int64_t>(problem.accumulate);
  const std::int64_t alignments =
      problem.alignment_a << 16 | problem.alignment_b << 8 | problem.alignment_c;
  std::size_t hash = 0;
  for (const std::int64_t field : {flags, alignments, problem.rows, problem.columns, problem.depth,
                                   problem.stride_a, problem.stride_b, problem.stride_c}) {
    hash = std::rotl((hash ^ static_cast<std::size_t>(field)) * 0x9E3779B97F4A7C15u, 29);
  }
  return hash;
}

GemmPlan::GemmPlan(const GemmProblem& problem) : problem_(problem) {
  // TF32 would be a compute type of its own: this one multiplies f32 as f32.
  check(cublasLtMatmulDescInit(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "MatmulDescInit");
  const auto transpose = [&](cublasLtMatmulDescAttributes_t attribute, bool transposed) {
    const cublasOperation_t value = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    check(cublasLtMatmulDescSetAttribute(&operation_, attribute, &value, sizeof value),
          "MatmulDescSetAttribute");
  };
  transpose(CUBLASLT_MATMUL_DESC_TRANSA, problem.transpose_b);
  transpose(CUBLASLT_MATMUL_DESC_TRANSB, problem.transpose_a);

  // A row-major (rows, columns) matrix is a column-major (columns, rows) one.
  const auto layout = [&](cublasLtMatrixLayoutOpaque_t& matrix, DType dtype, bool transposed,
                          std::int64_t rows, std::int64_t columns, std::int64_t stride) {
    if (transposed) std::swap(rows, columns);
    check(cublasLtMatrixLayoutInit(&matrix, cuda_type(dtype), static_cast<std::uint64_t>(columns),
                                   static_cast<std::uint64_t>(rows), stride),
          "MatrixLayoutInit");
  };
  layout(layout_a_, problem.input, problem.transpose_a, problem.rows, problem.depth,
         problem.stride_a);
  layout(layout_b_, problem.input, problem.transpose_b, problem.depth, problem.columns,
         problem.stride_b);
  layout(layout_c_, problem.output, false, problem.rows, problem.columns, problem.stride_c);
}

std::vector<cublasLtMatmulAlgo_t> GemmPlan::candidates() {
  cublasLtMatmulPreferenceOpaque_t preference;
  check(cublasLtMatmulPreferenceInit(&preference), "MatmulPreferenceInit");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
          "MatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{Context::kWorkspaceBytes});
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
         static_cast<std::uint32_t>(problem_.alignment_b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
         static_cast<std::uint32_t>(problem_.alignment_a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
         static_cast<std::uint32_t>(problem_.alignment_c));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
         static_cast<std::uint32_t>(problem_.alignment_c));

  std::array<cublasLtMatmulHeuristicResult_t, kMostCandidates> results;
  int found = 0;
  check(cublasLtMatmulAlgoGetHeuristic(Context::instance().blas(), &operation_, &layout_b_,
                                       &layout_a_, &layout_c_, &layout_c_, &preference,
                                       kMostCandidates, results.data(), &found),
        "MatmulAlgoGetHeuristic");
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (int i = 0; i < found; ++i) {
    const cublasLtMatmulHeuristicResult_t& result = results[static_cast<std::size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(result.algo);
  }
  require(!algorithms.empty(), "cublasLt has no algorithm for {} on {}", problem_.to_string(),
          Context::instance().name());
  return algorithms;
}

bool GemmPlan::accepts(const cublasLtMatmulAlgo_t& algorithm) {
  cublasLtMatmulHeuristicResult_t result{};
  return cublasLtMatmulAlgoCheck(Context::instance().blas(), &operation_, &layout_b_, &layout_a_,
                                 &layout_c_, &layout_c_, &algorithm,
                                 &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= Context::kWorkspaceBytes;
}

void GemmPlan::run(const void* a, const void* b, const void* addend, void* c) {
  const Context& context = Context::instance();
  const float one = 1, beta = problem_.accumulate ? 1 : 0;
  check(cublasLtMatmul(context.blas(), &operation_, &one, b, &layout_b_, a, &layout_a_, &beta,
                       addend, &layout_c_, c, &layout_c_, &algorithm_, context.workspace(),
                       Context::kWorkspaceBytes, context.stream()),
        "Matmul");
}

void GemmPlan::check(cublasStatus_t status, const char* call) const {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail("cublasLt{}: {} for the product {} on {}", call, cublasLtGetStatusName(status),
       problem_.to_string(), Context::instance().name());
}

}  // namespace polyhead::cuda
