#include "framework/checkpoint/element_conversion.h"

#include <cstring>

#include "framework/bf16.h"
#include "framework/error.h"
#include "framework/f16.h"

namespace polyhead {
namespace {

template <class From, class To, class Convert>
void convert_all(const std::byte* from, std::byte* to, std::int64_t count, Convert convert) {
  for (std::int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
    const To converted = convert(value);
    std::memcpy(to + static_cast<std::size_t>(i) * sizeof(To), &converted, sizeof(To));
  }
}

}  // namespace

bool converts(DType from, DType to) {
  const auto is_float = [](DType dtype) { return dtype != DType::kI32 && dtype != DType::kI64; };
  if (!is_float(from) || !is_float(to)) return false;
  const bool rounds = from == DType::kF32 && size_of(to) == 2;
  return size_of(from) <= size_of(to) || rounds;
}

void convert_elements(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype,
                      std::int64_t count) {
  const auto widened = [](auto value) { return to_float(value); };
  const auto is = [&](DType source, DType target) {
    return from_dtype == source && to_dtype == target;
  };
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * size_of(from_dtype));
  } else if (is(DType::kBf16, DType::kF32)) {
    convert_all<Bf16, float>(from, to, count, widened);
  } else if (is(DType::kBf16, DType::kF64)) {
    convert_all<Bf16, double>(from, to, count, widened);
  } else if (is(DType::kF16, DType::kF32)) {
    convert_all<F16, float>(from, to, count, widened);
  } else if (is(DType::kF16, DType::kF64)) {
    convert_all<F16, double>(from, to, count, widened);
  } else if (is(DType::kF16, DType::kBf16)) {
    convert_all<F16, Bf16>(from, to, count, [](F16 value) { return to_bf16(to_float(value)); });
  } else if (is(DType::kF32, DType::kF64)) {
    convert_all<float, double>(from, to, count, [](float value) { return double{value}; });
  } else if (is(DType::kF32, DType::kBf16)) {
    convert_all<float, Bf16>(from, to, count, to_bf16);
  } else if (is(DType::kF32, DType::kF16)) {
    convert_all<float, F16>(from, to, count, to_f16);
  } else if (is(DType::kBf16, DType::kF16)) {
    convert_all<Bf16, F16>(from, to, count, [](Bf16 value) { return to_f16(to_float(value)); });
  } else {
    POLYHEAD_CHECK(false, "no conversion from {} to {}", name_of(from_dtype), name_of(to_dtype));
  }
}

Tensor converted(const Tensor& source, DType dtype) {
  POLYHEAD_CHECK(source.is_contiguous(), "{} is strided", source.shape().to_string());
  Tensor target = Tensor::empty(source.shape(), dtype, source.device());
  convert_elements(static_cast<const std::byte*>(source.raw()), source.dtype(),
                   static_cast<std::byte*>(target.raw()), dtype, source.numel());
  return target;
}

}  // namespace polyhead
