// Tensor: a shared handle on row-major memory.
//
// Rank at most 4, the last dimension contiguous. All dimensions but the last count as rows, which
// lie row_stride() elements apart: so a slice of columns is a view, and q, k and v are column
// slices of one packed projection. Copying a Tensor copies the handle, not the data.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "framework/buffer.h"
#include "framework/device.h"
#include "framework/dtype.h"
#include "framework/error.h"

namespace polyhead {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return dims_[static_cast<std::size_t>(axis)]; }
  std::int64_t& operator[](int axis) { return dims_[static_cast<std::size_t>(axis)]; }
  void append(std::int64_t dim);
  std::int64_t numel() const;
  const std::int64_t* begin() const { return dims_.data(); }
  const std::int64_t* end() const { return dims_.data() + rank_; }
  bool operator==(const Shape& other) const;
  std::string to_string() const;  // "(2, 3)"

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

class Tensor {
 public:
  Tensor() = default;  // no storage; false in a condition
  static Tensor empty(const Shape& shape, DType dtype, Device device = Device::kCpu);
  static Tensor zeros(const Shape& shape, DType dtype, Device device = Device::kCpu);
  // Uninitialised, with the dtype and device of another tensor.
  static Tensor empty_like(const Tensor& other, const Shape& shape);
  static Tensor empty_like(const Tensor& other) { return empty_like(other, other.shape()); }
  static Tensor zeros_like(const Tensor& other);
  // Uninitialised, for sums over elements of another tensor: statistics, losses.
  static Tensor empty_accumulator(const Tensor& other, const Shape& shape);

  explicit operator bool() const { return buffer_ != nullptr; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  std::int64_t numel() const { return shape_.numel(); }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }
  std::int64_t rows() const;                               // product of all dimensions but the last
  std::int64_t cols() const;                               // the last dimension
  std::int64_t row_stride() const { return row_stride_; }  // in elements
  bool is_contiguous() const;

  // The address of the first element; T must be the tensor's dtype.
  template <class T>
  const T* data() const {
    check_dtype(dtype_of<T>());
    return static_cast<const T*>(raw());
  }
  template <class T>
  T* data() {
    check_dtype(dtype_of<T>());
    return static_cast<T*>(raw());
  }
  const void* raw() const;
  void* raw();

  // Views that share the storage.
  Tensor reshaped(const Shape& shape) const;                        // contiguous tensors only
  Tensor row_slice(std::int64_t begin, std::int64_t end) const;     // rank 1: elements
  Tensor column_slice(std::int64_t begin, std::int64_t end) const;  // result is (rows, columns)
  // The same rows and those behind them, `rows` in all: tensors laid out one behind the other as
  // one.
  Tensor extended_rows(std::int64_t rows) const;
  bool shares_storage_with(const Tensor& other) const { return buffer_ == other.buffer_; }

  // Every byte 0; contiguous tensors only.
  void set_zero();
  // Equal shape and dtype; either side may be a strided view, on either device. Where one side is
  // on the host the copy is complete when the call returns.
  void copy_from(const Tensor& source);
  Tensor clone() const;            // contiguous
  Tensor to(Device device) const;  // itself, or a contiguous copy

 private:
  void check_dtype(DType wanted) const;

  std::shared_ptr<Buffer> buffer_;
  std::int64_t offset_ = 0;  // elements
  Shape shape_;
  std::int64_t row_stride_ = 0;
  DType dtype_ = DType::kF32;
  Device device_ = Device::kCpu;
};

}  // namespace polyhead
