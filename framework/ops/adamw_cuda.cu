#include "framework/cuda/packs.cuh"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

using cuda::Pack;

template <int kSize>
struct Update {
  static constexpr int kBatch = 2;
  struct Input {
    Pack<float, kSize> gradient, value, mean, square;
  };

  const double* scalars;
  double weight_decay;
  float beta1, rest1, beta2, rest2, epsilon;
  const float* gradients;
  float *values, *means, *squares;
  __nv_bfloat16* rounded;  // null: not wanted

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const std::int64_t i = index * kSize;
    return {cuda::load_pack<float, kSize>(gradients + i), cuda::load_pack<float, kSize>(values + i),
            cuda::load_pack<float, kSize>(means + i), cuda::load_pack<float, kSize>(squares + i)};
  }

  // The scalars are read here, under the loads of the elements.
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto gradient_scale = static_cast<float>(scalars[kGradientScale]);
    if (isnan(gradient_scale)) return;
    const auto rate = static_cast<float>(scalars[kLearningRate] * scalars[kFirstCorrection]);
    const auto kept = static_cast<float>(1 - scalars[kLearningRate] * weight_decay);
    const float root = sqrtf(static_cast<float>(scalars[kSecondCorrection]));
    Pack<float, kSize> mean, square, value;
    mean.assign([&](int i) {
      return beta1 * input.mean[i] + rest1 * (input.gradient[i] * gradient_scale);
    });
    square.assign([&](int i) {
      const float g = input.gradient[i] * gradient_scale;
      return beta2 * input.square[i] + rest2 * g * g;
    });
    value.assign([&](int i) {
      const float change = rate * mean[i] / (sqrtf(square[i]) * root + epsilon);
      return kept * input.value[i] - change;
    });
    const std::int64_t to = index * kSize;
    cuda::store_pack(mean, means + to);
    cuda::store_pack(square, squares + to);
    cuda::store_pack(value, values + to);
    if (rounded == nullptr) return;
    Pack<__nv_bfloat16, kSize> nearest;
    nearest.assign([&](int i) { return value[i]; });
    cuda::store_pack(nearest, rounded + to);
  }
};

}  // namespace

template <>
void Adamw<Device::kCuda>::update(const Tensor& grad, const AdamwOptions& options,
                                  const Tensor& scalars, Tensor& value, Tensor& first_moment,
                                  Tensor& second_moment, Tensor& rounded) {
  POLYHEAD_CHECK(value.dtype() == DType::kF32, "adamw: on CUDA masters are f32, not {}",
                 name_of(value.dtype()));
  constexpr int kWhole = Pack<float>::kSize;
  const bool aligned = value.numel() % kWhole == 0 && cuda::is_aligned(grad) &&
                       cuda::is_aligned(value) && cuda::is_aligned(first_moment) &&
                       cuda::is_aligned(second_moment) &&
                       (!rounded || cuda::is_aligned(rounded, kWhole * sizeof(__nv_bfloat16)));
  cuda::with_pack_size<float>(aligned, [&]<int kSize>() {
    const Update<kSize> body{scalars.data<double>(),
                             options.weight_decay,
                             static_cast<float>(options.beta1),
                             static_cast<float>(1 - options.beta1),
                             static_cast<float>(options.beta2),
                             static_cast<float>(1 - options.beta2),
                             static_cast<float>(options.epsilon),
                             grad.data<float>(),
                             value.data<float>(),
                             first_moment.data<float>(),
                             second_moment.data<float>(),
                             rounded ? rounded.data<__nv_bfloat16>() : nullptr};
    cuda::for_each_pack("adamw", value.numel() / kSize, body);
  });
}

}  // namespace polyhead::ops::kernel
