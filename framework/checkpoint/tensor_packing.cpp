#include "framework/checkpoint/tensor_packing.h"

#include <cstring>

#include "framework/error.h"

namespace polyhead {
namespace {

template <class Element>
void transpose_elements(const Tensor& from, Tensor& to) {
  const auto* source = static_cast<const Element*>(from.raw());
  auto* target = static_cast<Element*>(to.raw());
  for (std::int64_t row = 0; row < from.rows(); ++row) {
    for (std::int64_t col = 0; col < from.cols(); ++col) {
      target[col * from.rows() + row] = source[row * from.cols() + col];
    }
  }
}

Tensor transposed(const Tensor& matrix) {
  Tensor result = Tensor::empty({matrix.cols(), matrix.rows()}, matrix.dtype());
  switch (size_of(matrix.dtype())) {
    case 2:
      transpose_elements<std::uint16_t>(matrix, result);
      break;
    case 4:
      transpose_elements<std::uint32_t>(matrix, result);
      break;
    default:
      transpose_elements<std::uint64_t>(matrix, result);
  }
  return result;
}

enum class Direction { kPack, kUnpack };

Tensor with_rows_moved(const PackedTensor& packed, const Tensor& tensor, Direction direction) {
  if (packed.rows.period == 0) return tensor;
  Tensor moved = Tensor::empty(tensor.shape(), tensor.dtype());
  const std::size_t row_bytes =
      static_cast<std::size_t>(tensor.numel() / tensor.shape()[0]) * size_of(tensor.dtype());
  const auto* from = static_cast<const std::byte*>(tensor.raw());
  auto* to = static_cast<std::byte*>(moved.raw());
  for (std::int64_t row = 0; row < tensor.shape()[0]; ++row) {
    const auto in_file = static_cast<std::size_t>(row);
    const auto in_stack = static_cast<std::size_t>(packed.rows.at(row));
    const bool packs = direction == Direction::kPack;
    std::memcpy(to + (packs ? in_file : in_stack) * row_bytes,
                from + (packs ? in_stack : in_file) * row_bytes, row_bytes);
  }
  return moved;
}

}  // namespace

std::int64_t stacked_rows(const PackedTensor& packed) {
  std::int64_t rows = 0;
  for (const PackedTensor::Part& part : packed.parts) rows += part.rows;
  return rows;
}

Tensor stacked(std::span<const Tensor> parts) {
  if (parts.size() == 1) return parts.front().clone();
  Shape shape = parts.front().shape();
  shape[0] = 0;
  for (const Tensor& part : parts) shape[0] += part.shape()[0];
  Tensor stack = Tensor::empty(shape, parts.front().dtype());
  std::int64_t begin = 0;
  for (const Tensor& part : parts) {
    const std::int64_t end = begin + part.shape()[0];
    stack.row_slice(begin, end).copy_from(part);
    begin = end;
  }
  return stack;
}

Tensor packed_tensor(const PackedTensor& packed, const Tensor& stack) {
  const Tensor moved = with_rows_moved(packed, stack, Direction::kPack);
  return packed.transposed ? transposed(moved) : moved;
}

Tensor unpacked_stack(const PackedTensor& packed, const Tensor& stored) {
  return with_rows_moved(packed, packed.transposed ? transposed(stored) : stored,
                         Direction::kUnpack);
}

}  // namespace polyhead
