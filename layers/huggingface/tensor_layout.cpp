#include "layers/huggingface/tensor_layout.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "framework/error.h"
#include "framework/files/mapped_file.h"
#include "layers/huggingface/config_json.h"
#include "layers/huggingface/config_reader.h"

namespace polyhead {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";

// Of each head the rotated rows, behind `plain` ones.
PackedTensor interleaved(const std::string& name, std::int64_t heads, std::int64_t plain,
                         std::int64_t rotary) {
  const std::int64_t width = plain + rotary;
  return {.name = name, .parts = {{name, heads * width}}, .rows = {width, rotary}};
}

void add_interleaved_latents(const ModelConfig& config, TensorLayout& layout) {
  const std::int64_t rotary = config.qk_pos_emb_head_dim.value();
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string attention = fmt::format("model.layers.{}.self_attn.", layer);
    layout.tensors.push_back(
        interleaved(attention + (config.q_lora_rank ? "q_b_proj.weight" : "q_proj.weight"),
                    config.num_attention_heads, config.qk_head_dim.value(), rotary));
    layout.tensors.push_back(interleaved(attention + "kv_a_proj_with_mqa.weight", 1,
                                         config.kv_lora_rank.value(), rotary));
  }
}

class Gpt2Layout {
 public:
  explicit Gpt2Layout(const ModelConfig& config) : config_(config) {
    layout_.optional_prefix = "transformer.";
  }

  TensorLayout make() {
    const std::int64_t hidden = config_.hidden_size, ffn = config_.ffn_hidden_size;
    add("wte.weight", {{kEmbedding, config_.vocab_size.value()}});
    add("wpe.weight", {{"model.embed_positions.weight", config_.max_position_embeddings.value()}});
    for (std::int64_t layer = 0; layer < config_.num_layers; ++layer) {
      const std::string there = fmt::format("h.{}.", layer);
      const std::string here = fmt::format("model.layers.{}.", layer);
      add_norm(there + "ln_1", here + "input_layernorm");
      add_norm(there + "ln_2", here + "post_attention_layernorm");
      const std::string attention = here + "self_attn.";
      add_linear(there + "attn.c_attn", {{attention + "q_proj", hidden},
                                         {attention + "k_proj", hidden},
                                         {attention + "v_proj", hidden}});
      add_linear(there + "attn.c_proj", {{attention + "o_proj", hidden}});
      add_linear(there + "mlp.c_fc", {{here + "mlp.up_proj", ffn}});
      add_linear(there + "mlp.c_proj", {{here + "mlp.down_proj", hidden}});
      for (const char* mask : {"attn.bias", "attn.masked_bias"}) {
        layout_.ignored.insert(layout_.optional_prefix + there + mask);
      }
    }
    add_norm("ln_f", "model.norm");
    return std::move(layout_);
  }

 private:
  using Parts = std::vector<PackedTensor::Part>;

  void add(const std::string& name, Parts parts, bool transposed = false) {
    layout_.tensors.push_back({layout_.optional_prefix + name, std::move(parts), {}, transposed});
  }
  void add_norm(const std::string& there, const std::string& here) {
    for (const char* part : {".weight", ".bias"}) {
      add(there + part, {{here + part, config_.hidden_size}});
    }
  }
  void add_linear(const std::string& there, const Parts& here) {
    for (const char* part : {".weight", ".bias"}) {
      Parts parts = here;
      for (PackedTensor::Part& linear : parts) linear.parameter += part;
      add(there + part, std::move(parts), part == std::string_view(".weight"));
    }
  }

  const ModelConfig& config_;
  TensorLayout layout_;
};

}  // namespace

TensorLayout huggingface_layout(const ModelConfig& config, std::string_view model_type,
                                bool rope_interleave) {
  TensorLayout layout;
  if (model_type == "gpt2") layout = Gpt2Layout(config).make();
  if (config.is_latent() && rope_interleave) add_interleaved_latents(config, layout);
  if (config.tie_word_embeddings) layout.copies["lm_head.weight"] = kEmbedding;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    layout.ignored.insert(fmt::format("model.layers.{}.self_attn.rotary_emb.inv_freq", layer));
  }
  return layout;
}

TensorLayout written_layout(const ModelConfig& config) {
  return huggingface_layout(config, huggingface_model_type(config), /*rope_interleave=*/true);
}

TensorLayout stored_layout(const std::filesystem::path& folder, const ModelConfig& config) {
  const StoredFormat format = read_stored_format(folder);
  return huggingface_layout(config, format.model_type, format.rope_interleave);
}

}  // namespace polyhead
