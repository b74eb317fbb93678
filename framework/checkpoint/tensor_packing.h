// Parameters into the tensor of a file that holds them, and back: moves of rows, whatever the
// elements are. Host tensors.
#pragma once

#include <span>

#include "framework/checkpoint/tensor_layout.h"
#include "framework/tensor.h"

namespace polyhead {

// Of all parts together.
std::int64_t stacked_rows(const PackedTensor& packed);

// The parts, one behind the other along dimension 0, in the order of `packed`.
Tensor stacked(std::span<const Tensor> parts);
// The tensor of the file for such a stack, and the stack for a tensor of the file: each other's
// inverse, bit by bit.
Tensor packed_tensor(const PackedTensor& packed, const Tensor& stack);
Tensor unpacked_stack(const PackedTensor& packed, const Tensor& stored);

}  // namespace polyhead
