// Heads as columns of a packed tensor: no transposes, no copies.
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

// Element (n, h, d) lies in row n, column h * head_stride + d of `columns`. A column slice of a
// packed projection is such a view; so is V inside [k_nope | v] per head.
struct HeadView {
  Tensor columns;  // (N, at least (heads - 1) * head_stride + head_dim)
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t head_stride = 0;
};

// `heads` heads side by side in all columns of x.
inline HeadView heads_of(const Tensor& x, std::int64_t heads) {
  POLYHEAD_CHECK(heads > 0 && x.cols() % heads == 0, "{} columns for {} heads", x.cols(), heads);
  return {x, heads, x.cols() / heads, x.cols() / heads};
}

// Dimensions [begin, end) of every head.
inline HeadView head_dims(const HeadView& view, std::int64_t begin, std::int64_t end) {
  return {view.columns.column_slice(begin, view.columns.cols()), view.heads, end - begin,
          view.head_stride};
}

}  // namespace polyhead::ops
