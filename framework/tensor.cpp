#include "framework/tensor.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "framework/device_memory.h"
#include "framework/dispatch.h"

namespace polyhead {

Shape::Shape(std::initializer_list<std::int64_t> dims) {
  for (std::int64_t dim : dims) append(dim);
}

void Shape::append(std::int64_t dim) {
  POLYHEAD_CHECK(rank_ < kMaxRank, "a shape has at most {} dimensions", kMaxRank);
  POLYHEAD_CHECK(dim >= 0, "dimension {} is negative: {}", rank_, dim);
  dims_[static_cast<std::size_t>(rank_++)] = dim;
}

std::int64_t Shape::numel() const {
  std::int64_t product = 1;
  for (std::int64_t dim : *this) product *= dim;
  return product;
}

bool Shape::operator==(const Shape& other) const {
  return std::equal(begin(), end(), other.begin(), other.end());
}

std::string Shape::to_string() const {
  return fmt::format("({})", fmt::join(begin(), end(), ", "));
}

namespace {

std::int64_t last_dim(const Shape& shape) {
  return shape.rank() == 0 ? 1 : shape[shape.rank() - 1];
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor tensor;
  tensor.buffer_ =
      allocate_buffer(static_cast<std::size_t>(shape.numel()) * size_of(dtype), device);
  tensor.shape_ = shape;
  tensor.row_stride_ = last_dim(shape);
  tensor.dtype_ = dtype;
  tensor.device_ = device;
  return tensor;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor tensor = empty(shape, dtype, device);
  tensor.set_zero();
  return tensor;
}

Tensor Tensor::empty_like(const Tensor& other, const Shape& shape) {
  return empty(shape, other.dtype(), other.device());
}

Tensor Tensor::zeros_like(const Tensor& other) {
  return zeros(other.shape(), other.dtype(), other.device());
}

Tensor Tensor::empty_accumulator(const Tensor& other, const Shape& shape) {
  return empty(shape, accumulation_dtype(other.dtype()), other.device());
}

std::int64_t Tensor::cols() const {
  return last_dim(shape_);
}

std::int64_t Tensor::rows() const {
  std::int64_t product = 1;
  for (int axis = 0; axis + 1 < shape_.rank(); ++axis) product *= shape_[axis];
  return product;
}

bool Tensor::is_contiguous() const {
  return row_stride_ == cols() || rows() <= 1;
}

const void* Tensor::raw() const {
  POLYHEAD_CHECK(buffer_ != nullptr, "an empty tensor was read");
  return static_cast<const std::byte*>(buffer_->data()) +
         static_cast<std::size_t>(offset_) * size_of(dtype_);
}

void* Tensor::raw() {
  return const_cast<void*>(static_cast<const Tensor*>(this)->raw());
}

void Tensor::check_dtype(DType wanted) const {
  POLYHEAD_CHECK(dtype_ == wanted, "a {} tensor was read as {}", name_of(dtype_), name_of(wanted));
}

Tensor Tensor::reshaped(const Shape& shape) const {
  POLYHEAD_CHECK(is_contiguous() && shape.numel() == numel(), "{} cannot be viewed as {}",
                 shape_.to_string(), shape.to_string());
  Tensor view = *this;
  view.shape_ = shape;
  view.row_stride_ = last_dim(shape);
  return view;
}

Tensor Tensor::row_slice(std::int64_t begin, std::int64_t end) const {
  POLYHEAD_CHECK(shape_.rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[0],
                 "rows [{}, {}) of {}", begin, end, shape_.to_string());
  const std::int64_t rows_per_entry =
      shape_[0] == 0 ? 0 : rows() / std::max<std::int64_t>(shape_[0], 1);
  Tensor view = *this;
  view.offset_ += shape_.rank() == 1 ? begin : begin * rows_per_entry * row_stride_;
  view.shape_[0] = end - begin;
  if (shape_.rank() == 1) view.row_stride_ = end - begin;
  return view;
}

Tensor Tensor::column_slice(std::int64_t begin, std::int64_t end) const {
  POLYHEAD_CHECK(shape_.rank() >= 1 && 0 <= begin && begin <= end && end <= cols(),
                 "columns [{}, {}) of {}", begin, end, shape_.to_string());
  Tensor view = *this;
  view.offset_ += begin;
  view.shape_ = Shape{rows(), end - begin};
  return view;
}

Tensor Tensor::extended_rows(std::int64_t rows) const {
  Tensor view = *this;
  view.shape_[0] = rows;
  if (shape_.rank() == 1) view.row_stride_ = rows;
  POLYHEAD_CHECK(
      is_contiguous() &&
          static_cast<std::size_t>(offset_ + view.numel()) * size_of(dtype_) <= buffer_->capacity(),
      "{} rows from {} leave the buffer", rows, shape_.to_string());
  return view;
}

void Tensor::set_zero() {
  POLYHEAD_CHECK(is_contiguous(), "set_zero of a view on columns");
  dispatch(device_, [&]<Device D>() { DeviceMemory<D>::set_bytes(raw(), 0, bytes()); });
}

void Tensor::copy_from(const Tensor& source) {
  POLYHEAD_CHECK(shape_ == source.shape_ && dtype_ == source.dtype_, "copy of {} {} into {} {}",
                 name_of(source.dtype_), source.shape_.to_string(), name_of(dtype_),
                 shape_.to_string());
  const std::size_t element = size_of(dtype_);
  const bool whole = is_contiguous() && source.is_contiguous();
  const std::size_t copied_rows = whole ? 1 : static_cast<std::size_t>(rows());
  const std::size_t width = static_cast<std::size_t>(whole ? numel() : cols()) * element;
  const Device copier = device_ == Device::kCpu ? source.device_ : device_;
  dispatch(copier, [&]<Device D>() {
    DeviceMemory<D>::copy_rows(source.raw(), static_cast<std::size_t>(source.row_stride_) * element,
                               raw(), static_cast<std::size_t>(row_stride_) * element, width,
                               copied_rows);
  });
}

Tensor Tensor::to(Device device) const {
  if (device == device_) return *this;
  Tensor copy = empty(shape_, dtype_, device);
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::clone() const {
  Tensor copy = empty_like(*this);
  copy.copy_from(*this);
  return copy;
}

}  // namespace polyhead
