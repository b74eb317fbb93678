#include "layers/huggingface/harmless_keys.h"

#include <fmt/format.h>

#include <iterator>
#include <span>
#include <vector>

namespace polyhead {
namespace {

constexpr std::string_view kOfAll[] = {"architectures",
                                       "auto_map",
                                       "bos_token_id",
                                       "cache_implementation",
                                       "chunk_size_feed_forward",
                                       "do_sample",
                                       "dtype",
                                       "eos_token_id",
                                       "finetuning_task",
                                       "id2label",
                                       "is_decoder",
                                       "label2id",
                                       "length_penalty",
                                       "max_length",
                                       "min_length",
                                       "name_or_path",
                                       "num_beams",
                                       "num_labels",
                                       "output_attentions",
                                       "output_hidden_states",
                                       "pad_token_id",
                                       "prefix",
                                       "pretraining_tp",
                                       "problem_type",
                                       "repetition_penalty",
                                       "return_dict",
                                       "sep_token_id",
                                       "task_specific_params",
                                       "temperature",
                                       "tokenizer_class",
                                       "top_k",
                                       "top_p",
                                       "torch_dtype",
                                       "torchscript",
                                       "transformers_version",
                                       "typical_p",
                                       "unsloth_version",
                                       "use_cache"};

constexpr std::string_view kOfGemma2[] = {"hidden_act"};  // not read by the class
constexpr std::string_view kOfGpt2[] = {"n_ctx",
                                        "reorder_and_upcast_attn",
                                        "summary_activation",
                                        "summary_first_dropout",
                                        "summary_proj_to_labels",
                                        "summary_type",
                                        "summary_use_proj"};
constexpr std::string_view kOfDeepseek[] = {"aux_loss_alpha",
                                            "ep_size",
                                            "head_dim",
                                            "moe_intermediate_size",
                                            "moe_layer_freq",
                                            "n_group",
                                            "n_routed_experts",
                                            "n_shared_experts",
                                            "norm_topk_prob",
                                            "num_experts_per_tok",
                                            "num_mtp_layers",
                                            "num_nextn_predict_layers",
                                            "output_router_logits",
                                            "qk_head_dim",
                                            "router_aux_loss_coef",
                                            "routed_scaling_factor",
                                            "scoring_func",
                                            "seq_aux",
                                            "topk_group",
                                            "topk_method"};

std::span<const std::string_view> harmless_keys_of(std::string_view model_type) {
  if (model_type == "gemma2") return kOfGemma2;
  if (model_type == "gpt2") return kOfGpt2;
  if (model_type == "deepseek_v2" || model_type == "deepseek_v3") return kOfDeepseek;
  return {};
}

}  // namespace

void refuse_unknown_keys(ConfigFields& fields, std::string_view model_type) {
  if (fields.has("quantization_config")) {
    fields.refuse("quantization_config",
                  "quantized weights are not loaded; take the model in bf16 or f32");
  }
  fields.require_flag("is_encoder_decoder", false, false, "only decoders are built");
  std::vector<std::string_view> harmless(std::begin(kOfAll), std::end(kOfAll));
  const std::span<const std::string_view> own = harmless_keys_of(model_type);
  harmless.insert(harmless.end(), own.begin(), own.end());
  fields.refuse_others(harmless,
                       fmt::format("it is not known for model_type {}; delete it, if it does not "
                                   "change what the model computes",
                                   model_type));
}

}  // namespace polyhead
