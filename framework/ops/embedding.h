// Rows of a table by index; the table may be this rank's slice of the vocabulary.
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

// y[n] = factor * table[ids[n] - first_id], or 0 where the id lies outside
// [first_id, first_id + valid_rows).
void embedding_forward(const Tensor& ids,    // (N) i32
                       const Tensor& table,  // (rows >= valid_rows, D)
                       std::int64_t first_id, std::int64_t valid_rows, double factor,
                       Tensor& y);  // (N, D)
// dtable[ids[n] - first_id] += factor * dy[n], in the order of n for each row. dtable has the
// accumulation dtype of dy.
void embedding_backward(const Tensor& dy, const Tensor& ids, std::int64_t first_id,
                        std::int64_t valid_rows, double factor, Tensor& dtable);

}  // namespace polyhead::ops
