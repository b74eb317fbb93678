#include "layers/conversion/grouped_query_conversion.h"

#include <cmath>

#include "framework/linear_algebra.h"
#include "framework/ops/elementwise.h"
#include "layers/conversion/head_tensors.h"

namespace polyhead {
namespace {

Tensor optional_copy(const AttentionTensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? Tensor() : exact_copy(found->second);
}

std::vector<Tensor> squared(const std::vector<Tensor>& matrices) {
  std::vector<Tensor> squares;
  for (const Tensor& matrix : matrices) {
    squares.push_back(matrix.clone());
    double* values = squares.back().data<double>();
    for (std::int64_t i = 0; i < matrix.numel(); ++i) values[i] *= values[i];
  }
  return squares;
}

double frobenius_norm(const Tensor& x) {
  return std::sqrt(squared_norm(x.shape().rank() == 1 ? x.reshaped({1, x.numel()}) : x, {}));
}

// Gives every group of `pooled` the mean norm of its members.
void renormalize(const Tensor& members, std::int64_t groups, Tensor& pooled) {
  const std::int64_t rows = pooled.shape()[0] / groups,
                     count = members.shape()[0] / pooled.shape()[0];
  for (std::int64_t group = 0; group < groups; ++group) {
    Tensor target = pooled.row_slice(group * rows, (group + 1) * rows);
    double mean = 0;
    for (std::int64_t m = group * count; m < (group + 1) * count; ++m) {
      mean +=
          frobenius_norm(members.row_slice(m * rows, (m + 1) * rows)) / static_cast<double>(count);
    }
    const double norm = frobenius_norm(target);
    if (norm > 0) ops::scale(mean / norm, target);
  }
}

// Of every target group the rows of one source group.
Tensor selected(const Tensor& source, const std::vector<std::int64_t>& groups, std::int64_t rows) {
  Shape shape = source.shape();
  shape[0] = static_cast<std::int64_t>(groups.size()) * rows;
  Tensor result = Tensor::empty_like(source, shape);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto target = static_cast<std::int64_t>(i);
    result.row_slice(target * rows, (target + 1) * rows)
        .copy_from(source.row_slice(groups[i] * rows, (groups[i] + 1) * rows));
  }
  return result;
}

}  // namespace

GroupedQueryConversion::GroupedQueryConversion(const ModelConfig& config,
                                               const KeyValuePooling& pooling,
                                               const AttentionInputs* inputs)
    : pooling_(pooling),
      rotary_dim_(config.rotates() ? polyhead::rotary_dim(config) : 0),
      qk_norm_(config.qk_norm),
      inputs_(inputs) {
  require(!aligns() || has_linear_algebra(),
          "--method {}: aligning heads needs LAPACK, without which this binary was built; install "
          "libopenblas-dev and configure with -DPOLYHEAD_WITH_LAPACK=ON, or use medoid or mean",
          pooling.method == PoolingMethod::kAligned ? "aligned" : "aligned-renorm");
}

bool GroupedQueryConversion::aligns() const {
  const bool aligned = pooling_.method == PoolingMethod::kAligned ||
                       pooling_.method == PoolingMethod::kAlignedRenorm;
  return aligned && members() > 1;
}

GroupedQueryConversion::Projection GroupedQueryConversion::projection(
    std::int64_t layer, const AttentionTensors& weights, const std::string& name) const {
  const Tensor& weight = tensor_of(weights, layer, name + ".weight");
  const std::string parameter = attention_prefix(layer) + name + ".weight";
  pooled_shape(parameter, weight.shape(), pooling_);  // refuses a tensor of another model
  require(weight.dtype() != DType::kF16, "{} holds F16; heads are pooled in F32, F64 or BF16",
          parameter);
  const Tensor bias = optional_copy(weights, name + ".bias");
  Projection result{with_bias(exact_copy(weight), bias), {}};
  if (inputs_ != nullptr) {
    result.metric = bias ? inputs_->covariance_with_one(layer) : inputs_->covariance(layer);
  }
  return result;
}

Tensor GroupedQueryConversion::group_products(const Projection& projection,
                                              std::int64_t group) const {
  const std::int64_t rows = members() * pooling_.head_dim;
  return inner_products(projection.weights.row_slice(group * rows, (group + 1) * rows),
                        projection.metric);
}

std::vector<Tensor> GroupedQueryConversion::rotations(const Projection& projection,
                                                      const RotationFreedom& freedom) const {
  std::vector<Tensor> all;
  for (std::int64_t group = 0; group < pooling_.target_groups; ++group) {
    for (Tensor& rotation :
         align_members(group_products(projection, group), members(), freedom).rotations) {
      all.push_back(std::move(rotation));
    }
  }
  return all;
}

RotationFreedom GroupedQueryConversion::freedom_of_keys(std::int64_t layer,
                                                        const AttentionTensors& weights) const {
  if (!qk_norm_) return key_freedom(pooling_.head_dim, rotary_dim_, {}, {});
  return key_freedom(pooling_.head_dim, rotary_dim_,
                     exact_copy(tensor_of(weights, layer, "q_norm.weight")),
                     exact_copy(tensor_of(weights, layer, "k_norm.weight")));
}

void GroupedQueryConversion::prepare(std::int64_t layer, const AttentionTensors& weights) {
  const Projection keys = projection(layer, weights, "k_proj");
  const Projection values = projection(layer, weights, "v_proj");
  Layer& plan = layers_[layer];
  if (aligns()) {
    const RotationFreedom freedom = freedom_of_keys(layer, weights);
    plan.keys = rotations(keys, freedom);
    plan.values = rotations(values, value_freedom(pooling_.head_dim));
    fidelity_[layer].aligned_key_dimensions = freedom.dimensions();
  }
  if (pooling_.method == PoolingMethod::kMedoid) {
    for (std::int64_t group = 0; group < pooling_.target_groups; ++group) {
      Tensor products = group_products(keys, group);
      ops::add_to(group_products(values, group), products);
      plan.medoids.push_back(group * members() + medoid(products, members()));
    }
  }
  measure(layer, weights, keys, values);
}

void GroupedQueryConversion::measure(std::int64_t layer, const AttentionTensors& weights,
                                     const Projection& keys, const Projection& values) {
  AttentionTensors projections;
  for (const auto& [name, tensor] : weights) {
    if (is_key_or_value_projection(name)) projections[name] = tensor;
  }
  const AttentionTensors result = convert(layer, projections, TensorRole::kWeights);
  const auto fidelity_of = [&](const Projection& before, const std::vector<Tensor>& turned,
                               const std::string& name) {
    const Tensor after = with_bias(exact_copy(tensor_of(result, layer, name + ".weight")),
                                   optional_copy(result, name + ".bias"));
    return projection_fidelity(before.weights, turned, after, pooling_.head_dim, before.metric);
  };
  const Layer& plan = layers_.at(layer);
  fidelity_[layer].keys = fidelity_of(keys, plan.keys, "k_proj");
  fidelity_[layer].values = fidelity_of(values, plan.values, "v_proj");
}

bool GroupedQueryConversion::replaces(std::string_view name) const {
  if (is_key_or_value_projection(name)) return true;
  return aligns() && (name.starts_with("q_proj.") || name == "o_proj.weight");
}

AttentionShapes GroupedQueryConversion::shapes(std::int64_t layer,
                                               const AttentionShapes& replaced) const {
  AttentionShapes result = replaced;
  for (auto& [name, shape] : result) {
    const std::string parameter = attention_prefix(layer) + name;
    if (is_key_or_value_projection(parameter)) shape = pooled_shape(parameter, shape, pooling_);
  }
  return result;
}

AttentionTensors GroupedQueryConversion::convert(std::int64_t layer,
                                                 const AttentionTensors& replaced,
                                                 TensorRole role) const {
  AttentionTensors result;
  for (const auto& [name, source] : replaced) {
    const std::string parameter = attention_prefix(layer) + name;
    if (!is_key_or_value_projection(parameter)) {
      result[name] = rotated(layers_.at(layer), name, source, role);
    } else if (role == TensorRole::kWeights) {
      result[name] = pooled(layer, name, source);
    } else {
      result[name] =
          Tensor::zeros(pooled_shape(parameter, source.shape(), pooling_), source.dtype());
    }
  }
  return result;
}

AttentionTensors GroupedQueryConversion::aligned(std::int64_t layer,
                                                 const AttentionTensors& weights) const {
  AttentionTensors result = weights;
  for (auto& [name, tensor] : result) {
    if (replaces(name)) tensor = rotated(layers_.at(layer), name, tensor, TensorRole::kWeights);
  }
  return result;
}

Tensor GroupedQueryConversion::rotated(const Layer& layer, std::string_view name,
                                       const Tensor& source, TensorRole role) const {
  const bool value = name.starts_with("v_proj.") || name.starts_with("o_proj.");
  const std::vector<Tensor>& rotations = value ? layer.values : layer.keys;
  const bool squares = role == TensorRole::kSecondMoments;
  const std::vector<Tensor> matrices = squares ? squared(rotations) : rotations;
  const Tensor exact = exact_copy(source);
  return rounded_copy(name.starts_with("o_proj.") ? rotated_columns(exact, matrices)
                                                  : rotated_rows(exact, matrices),
                      source.dtype());
}

Tensor GroupedQueryConversion::pooled(std::int64_t layer, const std::string& name,
                                      const Tensor& source) const {
  const std::string parameter = attention_prefix(layer) + name;
  const Layer& plan = layers_.at(layer);
  if (pooling_.method == PoolingMethod::kMedoid) {
    return selected(source, plan.medoids, pooling_.head_dim);
  }
  if (!aligns()) return pool_key_values(parameter, source, pooling_);
  const Tensor members =
      rotated_rows(exact_copy(source), name.starts_with("k_proj.") ? plan.keys : plan.values);
  Tensor result = pool_key_values(parameter, members, pooling_);
  if (pooling_.method == PoolingMethod::kAlignedRenorm) {
    renormalize(members, pooling_.target_groups, result);
  }
  return rounded_copy(result, source.dtype());
}

}  // namespace polyhead
