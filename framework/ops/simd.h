// Vectors of the machine's width over runs of any length, by xsimd.
//
// A loop is written once, as a generic lambda body(i, lanes): `lanes` is a compile-time constant
// for whole vectors, and the number of remaining elements for the last, shorter one. So the last
// elements pass through the same instructions as all others, and nothing behind them is touched.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <type_traits>

// GCC 12 takes the undefined operands inside its AVX-512 intrinsics for our mistakes (GCC PR
// 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <xsimd/xsimd.hpp>
#pragma GCC diagnostic pop

namespace polyhead::ops::simd {

template <class T>
using Vector = xsimd::batch<T>;
template <class T>
inline constexpr std::int64_t kWidth = static_cast<std::int64_t>(Vector<T>::size);

template <class T>
constexpr std::int64_t round_up_to_width(std::int64_t n) {
  return (n + kWidth<T> - 1) / kWidth<T> * kWidth<T>;
}
template <class T>
using AllLanes = std::integral_constant<std::int64_t, kWidth<T>>;

template <class T>
std::array<T, kWidth<T>> elements(const Vector<T>& x) {
  std::array<T, kWidth<T>> values;
  x.store_unaligned(values.data());
  return values;
}

template <class T>
T sum_of_lanes(const Vector<T>& x) {
  T sum = T(0);
  for (const T value : elements(x)) sum += value;
  return sum;
}

// The first `lanes` lanes of x; the others become `fill`.
template <class T>
Vector<T> first_lanes(const Vector<T>& x, std::int64_t lanes, T fill) {
  std::array<T, kWidth<T>> values = elements(x);
  std::fill(values.begin() + lanes, values.end(), fill);
  return Vector<T>::load_unaligned(values.data());
}

// Missing lanes are 0.
template <class T, class Lanes>
Vector<T> load(const T* x, Lanes lanes) {
  if constexpr (std::is_same_v<Lanes, AllLanes<T>>) {
    return Vector<T>::load_unaligned(x);
  } else {
    std::array<T, kWidth<T>> values{};
    std::copy_n(x, static_cast<std::int64_t>(lanes), values.begin());
    return Vector<T>::load_unaligned(values.data());
  }
}

template <class T, class Lanes>
void store(const Vector<T>& x, T* y, Lanes lanes) {
  if constexpr (std::is_same_v<Lanes, AllLanes<T>>) {
    x.store_unaligned(y);
  } else {
    std::copy_n(elements(x).begin(), static_cast<std::int64_t>(lanes), y);
  }
}

template <class T, class Body>
void for_each(std::int64_t count, Body&& body) {
  std::int64_t i = 0;
  for (; i + kWidth<T> <= count; i += kWidth<T>) body(i, AllLanes<T>{});
  if (i < count) body(i, count - i);
}

// Combines the vectors that body(i, lanes) returns, in an order fixed by `count`. Four independent
// chains hide the latency of the additions.
template <class T, class Body, class Combine>
T reduce(std::int64_t count, T neutral, Body&& body, Combine&& combine) {
  constexpr std::int64_t kChains = 4;
  std::array<Vector<T>, kChains> chains;
  chains.fill(Vector<T>(neutral));
  std::int64_t i = 0;
  for (; i + kChains * kWidth<T> <= count; i += kChains * kWidth<T>) {
    for (std::int64_t chain = 0; chain < kChains; ++chain) {
      auto& running = chains[static_cast<std::size_t>(chain)];
      running = combine(running, body(i + chain * kWidth<T>, AllLanes<T>{}));
    }
  }
  for (; i + kWidth<T> <= count; i += kWidth<T>) {
    chains[0] = combine(chains[0], body(i, AllLanes<T>{}));
  }
  if (i < count) {
    chains[0] = combine(chains[0], first_lanes(body(i, count - i), count - i, neutral));
  }
  const auto values =
      elements(combine(combine(chains[0], chains[1]), combine(chains[2], chains[3])));
  T result = values[0];
  for (std::size_t lane = 1; lane < values.size(); ++lane) result = combine(result, values[lane]);
  return result;
}

template <class T, class Body>
T sum(std::int64_t count, Body&& body) {
  return reduce<T>(count, T(0), body, [](const auto& a, const auto& b) { return a + b; });
}

// The largest of finite numbers; where one is NaN the result is any of them.
template <class T>
T max(const T* x, std::int64_t count) {
  using std::max;
  using xsimd::max;
  return reduce<T>(
      count, -std::numeric_limits<T>::infinity(),
      [x](std::int64_t i, auto lanes) { return load(x + i, lanes); },
      [](const auto& a, const auto& b) { return max(a, b); });
}

}  // namespace polyhead::ops::simd
