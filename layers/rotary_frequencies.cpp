#include <algorithm>
#include <cmath>
#include <numbers>

#include "layers/model_config.h"

namespace polyhead {

namespace {

// YaRN (Peng et al. 2023): fast dimensions keep their frequency, slow ones are divided by the
// factor, with a ramp between the dimensions that turn beta_fast and beta_slow times within the
// original context.
void apply_yarn(const ModelConfig& config, RotaryFrequencies& rotary) {
  const double dim = static_cast<double>(2 * rotary.inverse_frequencies.size());
  const double context = static_cast<double>(config.original_max_position_embeddings.value());
  const double factor = config.rotary_scaling_factor.value();
  const auto dimension_of_turns = [&](double turns) {
    return dim * std::log(context / (turns * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(config.rotation_base()));
  };
  const double low = std::max(std::floor(dimension_of_turns(config.beta_fast.value_or(32.0))), 0.0);
  double high = std::min(std::ceil(dimension_of_turns(config.beta_slow.value_or(1.0))), dim - 1.0);
  if (low == high) high += 0.001;
  for (std::size_t j = 0; j < rotary.inverse_frequencies.size(); ++j) {
    const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    double& inverse = rotary.inverse_frequencies[j];
    inverse = inverse * (1.0 - ramp) + inverse / factor * ramp;
  }
  rotary.amplitude = yarn_mscale(factor, config.mscale.value_or(1.0)) /
                     yarn_mscale(factor, config.mscale_all_dim.value_or(0.0));
}

// Llama 3: wavelengths beyond the original context are divided by the factor, those well inside
// keep their frequency, with a ramp between.
void apply_llama3(const ModelConfig& config, RotaryFrequencies& rotary) {
  const double context = static_cast<double>(config.original_max_position_embeddings.value());
  const double factor = config.rotary_scaling_factor.value();
  const double low = config.low_freq_factor.value_or(1.0);
  const double high = config.high_freq_factor.value_or(4.0);
  for (double& inverse : rotary.inverse_frequencies) {
    const double turns = context * inverse / (2.0 * std::numbers::pi);
    const double smooth = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    inverse = (1.0 - smooth) * inverse / factor + smooth * inverse;
  }
}

}  // namespace

double yarn_mscale(double scale, double mscale) {
  return scale <= 1.0 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

RotaryFrequencies rotary_frequencies(const ModelConfig& config) {
  RotaryFrequencies rotary;
  const std::int64_t dim = rotary_dim(config) / config.segments();
  for (std::int64_t j = 0; j < dim / 2; ++j) {
    rotary.inverse_frequencies.push_back(
        std::pow(config.rotation_base(), -2.0 * static_cast<double>(j) / static_cast<double>(dim)));
  }
  if (config.rotation() == RopeType::kYarn) apply_yarn(config, rotary);
  if (config.rotation() == RopeType::kLlama3) apply_llama3(config, rotary);
  const std::vector<double> segment = rotary.inverse_frequencies;
  for (std::int64_t repeat = 1; repeat < config.segments(); ++repeat) {
    rotary.inverse_frequencies.insert(rotary.inverse_frequencies.end(), segment.begin(),
                                      segment.end());
  }
  return rotary;
}

}  // namespace polyhead
