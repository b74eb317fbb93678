#include "framework/ops/embedding.h"

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {
namespace {

void check_arguments(const Tensor& ids, const Tensor& table, std::int64_t valid_rows) {
  POLYHEAD_CHECK(
      ids.is_contiguous() && ids.dtype() == DType::kI32 && ids.device() == table.device(),
      "embedding: ids are {} {} on {}", name_of(ids.dtype()), ids.shape().to_string(),
      name_of(ids.device()));
  POLYHEAD_CHECK(0 <= valid_rows && valid_rows <= table.rows(), "embedding: {} rows of {}",
                 valid_rows, table.rows());
}

}  // namespace

void embedding_forward(const Tensor& ids, const Tensor& table, std::int64_t first_id,
                       std::int64_t valid_rows, double factor, Tensor& y) {
  check_arguments(ids, table, valid_rows);
  check_matrix("embedding_forward: y", y, ids.numel(), table.cols(), table);
  dispatch(y.device(), [&]<Device D>() {
    kernel::Embedding<D>::forward(ids, table, first_id, valid_rows, factor, y);
  });
}

void embedding_backward(const Tensor& dy, const Tensor& ids, std::int64_t first_id,
                        std::int64_t valid_rows, double factor, Tensor& dtable) {
  check_arguments(ids, dtable, valid_rows);
  check_accumulated("embedding_backward: dtable", dtable, dtable.rows(), dy.cols(), dy);
  POLYHEAD_CHECK(dy.rows() == ids.numel(), "embedding_backward: {} rows of dy for {} ids",
                 dy.rows(), ids.numel());
  dispatch(dy.device(), [&]<Device D>() {
    kernel::Embedding<D>::backward(dy, ids, first_id, valid_rows, factor, dtable);
  });
}

}  // namespace polyhead::ops
