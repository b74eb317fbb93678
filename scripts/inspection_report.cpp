#include "scripts/inspection_report.h"

#include <map>

#include "framework/error.h"
#include "layers/kv_cache.h"
#include "layers/parameter_shapes.h"

namespace polyhead {

namespace {

constexpr std::int64_t kBf16Bytes = 2;

// 0, 1, 2, 5 -> "0-2, 5"; 0, 2, 4, 6 -> "0, 2, ..., 6".
std::string compressed(const std::vector<std::int64_t>& numbers) {
  const std::size_t count = numbers.size();
  const std::int64_t step = count > 1 ? numbers[1] - numbers[0] : 1;
  bool regular = count > 3 && step > 1;
  for (std::size_t i = 1; i < count; ++i) regular &= numbers[i] - numbers[i - 1] == step;
  if (regular) return fmt::format("{}, {}, ..., {}", numbers[0], numbers[1], numbers.back());
  std::string text;
  for (std::size_t begin = 0, end = 0; begin < count; begin = end) {
    end = begin + 1;
    while (end < count && numbers[end] == numbers[end - 1] + 1) ++end;
    text.append(begin == 0 ? "" : ", ").append(std::to_string(numbers[begin]));
    if (end > begin + 1) text.append("-").append(std::to_string(numbers[end - 1]));
  }
  return text;
}

// All layers have the parameters of the first, so one row stands for them.
std::string shape_table(const ModelConfig& config, const std::vector<ParameterShape>& shapes,
                        int ranks) {
  const std::string first = "model.layers.0.";
  const std::string all = fmt::format("model.layers.{{0-{}}}.", config.num_layers - 1);
  std::string table = fmt::format("{:<58} {:>18} {:>18}\n", "parameter", "whole",
                                  ranks == 1 ? "on the rank" : fmt::format("on 1 of {}", ranks));
  for (const ParameterShape& shape : shapes) {
    std::string name = shape.name;
    if (name.starts_with(first)) {
      name.replace(0, first.size(), all);
    } else if (name.starts_with("model.layers.")) {
      continue;
    }
    table += fmt::format("{:<58} {:>18} {:>18}\n", name, shape.global.to_string(),
                         shape.local.to_string());
  }
  return table;
}

std::string count_table(const std::vector<ParameterShape>& shapes, bool tied) {
  const std::int64_t total = count_parameters(shapes);
  const std::int64_t embedding = count_parameters(shapes, ModelPart::kEmbedding);
  const std::int64_t head = count_parameters(shapes, ModelPart::kHead);
  std::string table = fmt::format("{:<32} {:>16} {:>7}\n", "part", "parameters", "share");
  const auto add = [&](const std::string& name, std::int64_t count) {
    table += fmt::format("{:<32} {:>16} {:>6.1f}%\n", name, count,
                         100.0 * static_cast<double>(count) / static_cast<double>(total));
  };
  add("embedding", embedding);
  add("attention", count_parameters(shapes, ModelPart::kAttention));
  add("mlp", count_parameters(shapes, ModelPart::kMlp));
  add("norms", count_parameters(shapes, ModelPart::kNorms));
  add(tied ? "head (the embedding)" : "head", head);
  add("total", total);
  add("without embedding and head", total - embedding - head);
  return table;
}

std::string cache_row(const std::string& name, std::int64_t per_token, std::int64_t per_token_rank,
                      std::int64_t bytes, std::int64_t own_bytes) {
  const double size = static_cast<double>(bytes);
  return fmt::format("{:<28} {:>12} {:>14} {:>11.2f} {:>11.2f} {:>8.3f}\n", name, per_token,
                     per_token_rank, size / (1 << 20), size / 1e6,
                     size / static_cast<double>(own_bytes));
}

std::string cache_table(const ModelConfig& config, const InspectionOptions& options) {
  const std::int64_t ranks = options.tensor_parallel_size, context = options.context;
  const std::int64_t own = kv_cache_bytes(config, context, ranks, kBf16Bytes);
  std::string table = fmt::format("{:<28} {:>12} {:>14} {:>11} {:>11} {:>8}\n", "attention",
                                  "bytes/token", "on each rank", "MiB/rank", "MB/rank", "of own");
  const auto add = [&](const std::string& name, const ModelConfig& form) {
    if (!model_rule_violations(form, ranks).empty()) {
      table += fmt::format("{:<28} cannot be divided over {} ranks\n", name, ranks);
      return;
    }
    table += cache_row(name, kv_cache_bytes_per_token(form, 1, kBf16Bytes),
                       kv_cache_bytes_per_token(form, ranks, kBf16Bytes),
                       kv_cache_bytes(form, context, ranks, kBf16Bytes), own);
    if (!form.is_latent() || form.window_size) return;
    const std::int64_t expanded = form.num_layers * kBf16Bytes;
    const std::int64_t per_rank = expanded * expanded_kv_cache_elements(form, ranks);
    table += cache_row("  the same, expanded", expanded * expanded_kv_cache_elements(form, 1),
                       per_rank, per_rank * context, own);
  };
  add("this model: " + attention_variant(config), config);
  for (const AttentionAlternative& alternative : attention_alternatives(config)) {
    add(alternative.name, alternative.config);
  }
  return table;
}

}  // namespace

std::string attention_reason(const ModelConfig& config) {
  const std::int64_t heads = config.num_attention_heads;
  if (config.is_latent()) {
    return fmt::format(
        "kv_lora_rank is {}{}", *config.kv_lora_rank,
        config.q_lora_rank
            ? fmt::format("; q_lora_rank is {}: queries are compressed too", *config.q_lora_rank)
            : "; q_lora_rank is absent: queries are not compressed");
  }
  const std::int64_t groups = config.groups();
  if (groups == heads) {
    return fmt::format(
        "num_query_groups is absent or equal to num_attention_heads ({}): every head has its own "
        "key and value",
        heads);
  }
  if (groups == 1) {
    return fmt::format("num_query_groups is 1: all {} heads share one key and value", heads);
  }
  return fmt::format("num_query_groups is {}: each key and value serves {} of {} heads", groups,
                     heads / groups, heads);
}

std::string window_table(const ModelConfig& config) {
  std::map<std::int64_t, std::vector<std::int64_t>, std::greater<>> layers_of;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    layers_of[layer_attention_config(config, layer).window].push_back(layer);
  }
  std::string text;
  for (const auto& [window, layers] : layers_of) {
    text.append(text.empty() ? "" : "; ").append("layers ").append(compressed(layers));
    text.append(window == 0 ? ": global" : fmt::format(": {} tokens", window));
  }
  return text;
}

std::string inspection_report(const ModelConfig& config, const InspectionOptions& options) {
  const int ranks = options.tensor_parallel_size;
  require(ranks >= 1, "--tp: got {}; must be at least 1", ranks);
  require(1 <= options.context && options.context <= 1 << 24,
          "--context: got {}; must lie in 1 to {}", options.context, 1 << 24);
  require(config.vocab_size.has_value(),
          "{}: model.vocab_size: missing; a run takes it from its tokenizer; give it here with "
          "--set model.vocab_size=NUMBER",
          options.source);
  std::string problems;
  for (const RuleViolation& violation : model_rule_violations(config, ranks)) {
    problems += fmt::format("{}{}: model.{}: {}", problems.empty() ? "" : "\n", options.source,
                            violation.key, violation.message);
  }
  if (!problems.empty()) throw ConfigurationError(problems);

  const std::vector<ParameterShape> shapes = parameter_shapes(config, ranks);
  return fmt::format(
      "{}\n"
      "attention: {}, class {}\n"
      "because {}\n"
      "windows: {}\n\n"
      "{}\n{}\n"
      "KV cache in bf16, one sequence of {} tokens, {} tensor-parallel rank{}\n{}",
      options.source, attention_variant(config),
      config.is_latent() ? "LatentAttention" : "GroupedQueryAttention", attention_reason(config),
      window_table(config), shape_table(config, shapes, ranks),
      count_table(shapes, config.tie_word_embeddings), options.context, ranks,
      ranks == 1 ? "" : "s", cache_table(config, options));
}

}  // namespace polyhead
