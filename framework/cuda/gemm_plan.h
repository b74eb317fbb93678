// One matrix product as cublasLt sees it: descriptors made once, then a single call.
//
// Tensors are row-major and cublasLt counts in columns: c = op(a) op(b) read column by column is
// c^T = op(b)^T op(a)^T, so b goes first and no flag of transposition changes.
#pragma once

#include <cublasLt.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "framework/dtype.h"

namespace polyhead::cuda {

// c (rows, columns) = op(a) (rows, depth) op(b) (depth, columns), with `accumulate` added to
// another matrix that lies in memory as c does, with none of the three 0.
struct GemmProblem {
  DType input = DType::kF32;   // of a and b
  DType output = DType::kF32;  // of c
  bool transpose_a = false, transpose_b = false, accumulate = false;
  std::int64_t rows = 0, columns = 0, depth = 0;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // elements between rows in memory
  int alignment_a = 0, alignment_b = 0, alignment_c = 0;  // of the addresses: 2, 4, 8 or 16 bytes

  // One text for each problem: "bf16->f32 TN 6144x2048x32768 +=" for rows x columns x depth, then
  // " stride A B C" and " align A B C" unless the tensors are contiguous and aligned.
  std::string to_string() const;
  bool operator==(const GemmProblem&) const = default;
};

struct GemmProblemHash {
  std::size_t operator()(const GemmProblem& problem) const;
};

class GemmPlan {
 public:
  explicit GemmPlan(const GemmProblem& problem);
  GemmPlan(const GemmPlan&) = delete;
  GemmPlan& operator=(const GemmPlan&) = delete;

  const GemmProblem& problem() const { return problem_; }

  // At most kMostCandidates algorithms in the order of the library's guess, at least one. None adds
  // up parts of a product in c: in-place reductions take the parts in the order in which they
  // arrive, and reductions in bf16 round each part.
  std::vector<cublasLtMatmulAlgo_t> candidates();
  static constexpr int kMostCandidates = 16;

  // Whether an algorithm from elsewhere computes this problem on this device.
  bool accepts(const cublasLtMatmulAlgo_t& algorithm);

  void set_algorithm(const cublasLtMatmulAlgo_t& algorithm) { algorithm_ = algorithm; }
  // On the context's stream, by the algorithm set before. `addend` may be c, and is not read unless
  // the problem accumulates.
  void run(const void* a, const void* b, const void* addend, void* c);

 private:
  void check(cublasStatus_t status, const char* call) const;

  GemmProblem problem_;
  cublasLtMatmulDescOpaque_t operation_;
  cublasLtMatrixLayoutOpaque_t layout_a_, layout_b_, layout_c_;
  cublasLtMatmulAlgo_t algorithm_;
};

}  // namespace polyhead::cuda
