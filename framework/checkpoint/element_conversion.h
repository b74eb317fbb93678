// Between the element types of files and of tensors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "framework/dtype.h"
#include "framework/tensor.h"

namespace polyhead {

// Whether convert_elements takes the pair, both floating-point.
bool converts(DType from, DType to);

// Converts `count` elements, which may be unaligned. Widening is exact; to bf16 and
// f16, from each other and from f32, it rounds to the nearest, ties to even. No other pair of
// unequal types may occur.
void convert_elements(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype,
                      std::int64_t count);

// A copy of a contiguous host tensor in another element type.
Tensor converted(const Tensor& source, DType dtype);

}  // namespace polyhead
