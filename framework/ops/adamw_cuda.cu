#include "framework/cuda/packs.cuh"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

using cuda::Pack;

// M is what moments are stored in.
template <class M, int kSize>
struct Update {
  static constexpr bool kRounds = sizeof(M) < sizeof(float);
  static constexpr int kBatch = 2;
  struct Input {
    Pack<float, kSize> gradient, value;
    Pack<M, kSize> mean, square;
  };

  const double* scalars;
  double weight_decay;
  float beta1, rest1, beta2, rest2, epsilon;
  const float* gradients;
  float* values;
  M *means, *squares;
  __nv_bfloat16* rounded;  // null: not wanted
  MomentRounding rounding;
  cuda::Divider columns;  // of the slice that `rounding` tells

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const std::int64_t i = index * kSize;
    return {cuda::load_pack<float, kSize>(gradients + i), cuda::load_pack<float, kSize>(values + i),
            cuda::load_pack<M, kSize>(means + i), cuda::load_pack<M, kSize>(squares + i)};
  }

  // The scalars are read here, under the loads of the elements. Products that are fused are named,
  // so that elements have the same bits in packs and alone: the layout decides which they are in.
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto gradient_scale = static_cast<float>(scalars[kGradientScale]);
    if (isnan(gradient_scale)) return;
    const auto rate = static_cast<float>(scalars[kLearningRate] * scalars[kFirstCorrection]);
    const auto kept = static_cast<float>(1 - scalars[kLearningRate] * weight_decay);
    const float root = sqrtf(static_cast<float>(scalars[kSecondCorrection]));
    Pack<float, kSize> mean, square, value;
    mean.assign([&](int i) {
      return fmaf(beta1, input.mean[i], rest1 * (input.gradient[i] * gradient_scale));
    });
    square.assign([&](int i) {
      const float g = input.gradient[i] * gradient_scale;
      return fmaf(beta2, input.square[i], rest2 * g * g);
    });
    value.assign([&](int i) {
      const float change = rate * mean[i] / fmaf(sqrtf(square[i]), root, epsilon);
      return fmaf(kept, input.value[i], -change);
    });
    const std::int64_t to = index * kSize;
    store_moments(to, mean, square);
    cuda::store_pack(value, values + to);
    if (rounded == nullptr) return;
    Pack<__nv_bfloat16, kSize> nearest;
    nearest.assign([&](int i) { return value[i]; });
    cuda::store_pack(nearest, rounded + to);
  }

  __device__ __forceinline__ void store_moments(std::int64_t to, const Pack<float, kSize>& mean,
                                                const Pack<float, kSize>& square) const {
    if constexpr (kRounds) {
      const auto [row, column] = columns(rounding.begin + to);
      const std::int64_t first = rounding.slice.at(row, column);
      const auto words = rounding_words(rounding, static_cast<std::uint64_t>(scalars[kUpdate]),
                                        first / kRoundedTogether);
      const auto word_of = [&](int i) {
        return words[kSize == 1 ? first % kRoundedTogether : static_cast<std::size_t>(i)];
      };
      Pack<M, kSize> short_mean, short_square;
      short_mean.assign(
          [&](int i) { return stochastic_bf16(mean[i], first_moment_bits(word_of(i))); });
      short_square.assign(
          [&](int i) { return stochastic_bf16(square[i], second_moment_bits(word_of(i))); });
      cuda::store_pack(short_mean, means + to);
      cuda::store_pack(short_square, squares + to);
    } else {
      cuda::store_pack(mean, means + to);
      cuda::store_pack(square, squares + to);
    }
  }
};

// Whether each pack of kRoundedTogether elements has one block of random words.
bool rounds_whole_blocks(const MomentRounding& rounding) {
  const SliceIndex& slice = rounding.slice;
  const auto whole = [](std::int64_t number) { return number % kRoundedTogether == 0; };
  return whole(rounding.begin) && whole(slice.first) && whole(slice.columns) &&
         whole(slice.whole_columns);
}

template <class M>
void update_all(const Tensor& grad, const AdamwOptions& options, const Tensor& scalars,
                Tensor& value, Tensor& first_moment, Tensor& second_moment, Tensor& rounded) {
  constexpr int kWhole = Pack<float>::kSize;
  static_assert(kWhole == kRoundedTogether);
  const bool aligned = value.numel() % kWhole == 0 && cuda::is_aligned(grad) &&
                       cuda::is_aligned(value) &&
                       cuda::is_aligned(first_moment, kWhole * sizeof(M)) &&
                       cuda::is_aligned(second_moment, kWhole * sizeof(M)) &&
                       (!rounded || cuda::is_aligned(rounded, kWhole * sizeof(__nv_bfloat16))) &&
                       (sizeof(M) == sizeof(float) || rounds_whole_blocks(options.rounding));
  cuda::with_pack_size<float>(aligned, [&]<int kSize>() {
    const Update<M, kSize> body{scalars.data<double>(),
                                options.weight_decay,
                                static_cast<float>(options.beta1),
                                static_cast<float>(1 - options.beta1),
                                static_cast<float>(options.beta2),
                                static_cast<float>(1 - options.beta2),
                                static_cast<float>(options.epsilon),
                                grad.data<float>(),
                                value.data<float>(),
                                first_moment.data<M>(),
                                second_moment.data<M>(),
                                rounded ? rounded.data<__nv_bfloat16>() : nullptr,
                                options.rounding,
                                cuda::Divider(options.rounding.slice.columns)};
    cuda::for_each_pack("adamw", value.numel() / kSize, body);
  });
}

}  // namespace

template <>
void Adamw<Device::kCuda>::update(const Tensor& grad, const AdamwOptions& options,
                                  const Tensor& scalars, Tensor& value, Tensor& first_moment,
                                  Tensor& second_moment, Tensor& rounded) {
  POLYHEAD_CHECK(value.dtype() == DType::kF32, "adamw: on CUDA masters are f32, not {}",
                 name_of(value.dtype()));
  cuda::dispatch_float(first_moment.dtype(), [&]<class M>() {
    update_all<M>(grad, options, scalars, value, first_moment, second_moment, rounded);
  });
}

}  // namespace polyhead::ops::kernel
