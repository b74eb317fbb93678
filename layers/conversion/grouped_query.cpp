#include "layers/conversion/grouped_query.h"

#include <algorithm>
#include <array>

#include "framework/checkpoint/element_conversion.h"
#include "framework/dispatch.h"
#include "framework/parameters/parameter.h"

namespace polyhead {
namespace {

// A group's entries lie one behind the other: `size` of them in each group.
template <class T>
void pool_members(const T* source, T* target, std::int64_t size, std::int64_t groups,
                  std::int64_t members, std::int64_t summed) {
  for (std::int64_t group = 0; group < groups; ++group) {
    const T* first = source + group * members * size;
    for (std::int64_t i = 0; i < size; ++i) {
      T sum = first[i];
      for (std::int64_t member = 1; member < summed; ++member) sum += first[member * size + i];
      target[group * size + i] = sum / static_cast<T>(summed);
    }
  }
}

Tensor drawn(const std::string& name, const Shape& shape, DType dtype,
             const KeyValuePooling& pooling) {
  const bool bias = shape.rank() == 1;
  const Parameter parameter =
      replicated_parameter(name, shape, 0,
                           {bias ? Initialization::Kind::kZeros : Initialization::Kind::kNormal,
                            pooling.standard_deviation});
  return initial_value(parameter, pooling.seed, dtype);
}

}  // namespace

KeyValuePooling plan_pooling(const ModelConfig& config, std::int64_t groups, PoolingMethod method,
                             std::uint64_t seed) {
  require(!config.is_latent(),
          "the source has multi-head latent attention (kv_lora_rank is set), whose keys and values "
          "have no groups to pool; convert an MHA or GQA checkpoint");
  require(groups >= 1 && config.groups() % groups == 0,
          "{} groups cannot be pooled into {}; --groups must divide {}: use {}", config.groups(),
          groups, config.groups(), divisors_of(config.groups()));
  return {config.groups(), groups, config.head_dim(), method, seed, config.init_method_std};
}

bool is_key_or_value_projection(std::string_view name) {
  constexpr std::array<std::string_view, 4> kEndings = {"k_proj.weight", "k_proj.bias",
                                                        "v_proj.weight", "v_proj.bias"};
  return std::ranges::any_of(kEndings,
                             [&](std::string_view ending) { return name.ends_with(ending); });
}

Shape pooled_shape(const std::string& name, const Shape& source, const KeyValuePooling& pooling) {
  POLYHEAD_CHECK(pooling.target_groups > 0 && pooling.source_groups % pooling.target_groups == 0,
                 "{} groups into {}", pooling.source_groups, pooling.target_groups);
  const std::int64_t rows = pooling.source_groups * pooling.head_dim;
  require(source.rank() >= 1 && source[0] == rows,
          "{} has shape {}; {} groups of {} dimensions need {} rows", name, source.to_string(),
          pooling.source_groups, pooling.head_dim, rows);
  Shape target = source;
  target[0] = pooling.target_groups * pooling.head_dim;
  return target;
}

Tensor pool_key_values(const std::string& name, const Tensor& source,
                       const KeyValuePooling& pooling) {
  POLYHEAD_CHECK(pooling.method != PoolingMethod::kMedoid, "{}: a medoid is no mean", name);
  const Shape shape = pooled_shape(name, source.shape(), pooling);
  if (source.dtype() == DType::kBf16) {
    return converted(pool_key_values(name, converted(source, DType::kF32), pooling), DType::kBf16);
  }
  require(source.dtype() == DType::kF32 || source.dtype() == DType::kF64,
          "{} holds {}; keys and values are pooled in f32, f64 or bf16", name,
          name_of(source.dtype()));
  if (pooling.method == PoolingMethod::kRandom) return drawn(name, shape, source.dtype(), pooling);
  Tensor target = Tensor::empty_like(source, shape);
  const std::int64_t members = pooling.source_groups / pooling.target_groups;
  dispatch_cpu_float(source.dtype(), [&]<class T>() {
    pool_members(source.data<T>(), target.data<T>(), shape.numel() / pooling.target_groups,
                 pooling.target_groups, members,
                 pooling.method == PoolingMethod::kFirst ? 1 : members);
  });
  return target;
}

}  // namespace polyhead
