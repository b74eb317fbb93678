#include "layers/conversion/attention_conversion.h"

#include <charconv>

namespace polyhead {
namespace {

constexpr std::string_view kLayers = "model.layers.";
constexpr std::string_view kAttention = ".self_attn.";

}  // namespace

std::string attention_prefix(std::int64_t layer) {
  return fmt::format("{}{}{}", kLayers, layer, kAttention);
}

std::optional<AttentionTensorName> attention_tensor_name(std::string_view parameter) {
  if (!parameter.starts_with(kLayers)) return std::nullopt;
  AttentionTensorName parsed;
  const char* const end = parameter.data() + parameter.size();
  const auto [rest, error] = std::from_chars(parameter.data() + kLayers.size(), end, parsed.layer);
  const std::string_view behind(rest, static_cast<std::size_t>(end - rest));
  if (error != std::errc() || !behind.starts_with(kAttention)) return std::nullopt;
  parsed.name = behind.substr(kAttention.size());
  return parsed;
}

const Tensor& tensor_of(const AttentionTensors& tensors, std::int64_t layer,
                        std::string_view name) {
  const auto found = tensors.find(name);
  require(found != tensors.end(), "{}{} is missing from the checkpoint", attention_prefix(layer),
          name);
  return found->second;
}

}  // namespace polyhead
