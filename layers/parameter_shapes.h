// The parameters a model would have, without making it: names, shapes and counts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/tensor.h"
#include "layers/model_config.h"

namespace polyhead {

// Norms within an attention (of heads or latents) count as attention.
enum class ModelPart { kEmbedding, kAttention, kMlp, kNorms, kHead };

struct ParameterShape {
  std::string name;  // on disk
  ModelPart part;
  Shape global;
  Shape local;  // on the first of the tensor-parallel ranks, with the vocabulary's padding
};

// In forward order. Costs no memory beyond the list: the layers only describe their parameters.
// config must have passed model_rule_violations for these ranks and know its vocab_size.
std::vector<ParameterShape> parameter_shapes(const ModelConfig& config, int tensor_parallel_size);

// Entries of all tensors of a part; a tied head counts as embedding alone.
std::int64_t count_parameters(const std::vector<ParameterShape>& shapes, ModelPart part);
std::int64_t count_parameters(const std::vector<ParameterShape>& shapes);

}  // namespace polyhead
