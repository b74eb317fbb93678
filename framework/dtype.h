#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace polyhead {

// kF64 exists for gradient checks on the CPU, kBf16 for CUDA and for files, kF16 and kI64 for files
// alone: nothing computes in them.
enum class DType { kF64, kF32, kF16, kBf16, kI32, kI64 };

constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 8;
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBf16:
      return 2;
    case DType::kI32:
      return 4;
    case DType::kI64:
      return 8;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "f64";
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBf16:
      return "bf16";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
  }
  return "?";
}

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, double>) return DType::kF64;
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, std::int32_t>) return DType::kI32;
  if constexpr (std::is_same_v<T, std::int64_t>) return DType::kI64;
}

// The dtype of sums over elements of `dtype`: statistics of norms and softmax, losses, and the
// gradients of parameters.
constexpr DType accumulation_dtype(DType dtype) {
  return dtype == DType::kBf16 ? DType::kF32 : dtype;
}

}  // namespace polyhead
