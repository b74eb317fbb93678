// Which tokens pick which rows of an embedding table, on CUDA. Private to framework/ops.
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops::kernel {

// Tokens sorted by the table row they pick. Tokens of one row stay in order; those whose id lies
// outside [first_id, first_id + valid_rows) have the row valid_rows and stand last.
struct TokenOrder {
  Tensor rows;    // (N) i32
  Tensor tokens;  // (N) i32
};
TokenOrder order_by_row(const Tensor& ids, std::int64_t first_id, std::int64_t valid_rows);

}  // namespace polyhead::ops::kernel
