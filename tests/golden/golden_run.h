// What Polyhead computes on a golden folder, on one rank or split over several, as relative errors
// against the folder's numbers.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <numeric>

#include "data/evaluation_windows.h"
#include "framework/checkpoint/checkpoint.h"
#include "framework/checkpoint/tensor_packing.h"
#include "framework/ops/elementwise.h"
#include "layers/model.h"
#include "optim/gradients.h"
#include "optim/optimizer.h"
#include "tests/golden/golden_folder.h"
#include "tests/support/model_run.h"

namespace polyhead::testing {

struct GoldenErrors {
  double logits = 0, loss = 0, gradients = 0, gradient_norm = 0;
  std::string worst_gradient;
  double training_losses = 0, training_norms = 0;  // the largest of all steps
  double strided = 0, hf_strided = 0;              // of the perplexities
  std::vector<std::int64_t> greedy;

  std::string to_string() const {
    return fmt::format(
        "logits {:.1e}, loss {:.1e}, gradients {:.1e} ({}), norm {:.1e}; training: losses {:.1e}, "
        "norms {:.1e}; perplexity: strided {:.1e}, hf_strided {:.1e}",
        logits, loss, gradients, worst_gradient, gradient_norm, training_losses, training_norms,
        strided, hf_strided);
  }
};

class GoldenRun {
 public:
  // Call everything on every rank of `communicator`; each gets the whole result.
  GoldenRun(const GoldenFolder& golden, const Communicator& communicator, Device device)
      : golden_(golden),
        communicator_(communicator),
        device_(device),
        parallel_(communicator, /*sequence_parallel=*/false),
        model_(golden.model.config, kContext, parallel_, DType::kF32, Recompute::kNone, device),
        store_(model_.parameters(), DType::kF32, device) {
    load_parameters(golden.path, store_, golden.model.layout);
  }

  GoldenErrors errors() {
    GoldenErrors errors;
    const Tensor logits = golden_.tensors.read("logits");
    errors.logits = relative_error(
        logits_of(golden_.ids("input_ids"), logits.shape()[0]).reshaped(logits.shape()), logits);
    compare_gradients(errors);
    errors.greedy = greedy();
    errors.strided = perplexity_error(WindowMethod::kStrided, "strided_ppl");
    errors.hf_strided = perplexity_error(WindowMethod::kHfStrided, "hf_strided_ppl");
    compare_training(errors);  // last: it changes the weights
    return errors;
  }

 private:
  static constexpr std::int64_t kContext = 64;

  const nlohmann::json& figure(const char* name) const { return golden_.figures.at(name); }
  static double error(double got, double want) { return std::abs(got - want) / std::abs(want); }

  const Parameter& head() {
    const Parameter* head = nullptr;
    for (const Parameter* parameter : model_.parameters()) {
      if (parameter->name == "model.embed_tokens.weight" || parameter->name == "lm_head.weight") {
        head = parameter;
      }
    }
    return *head;
  }

  // (N, V) f32, of the model's hidden states and its head, multiplied here in f64.
  Tensor logits_of(const Tensor& ids, std::int64_t batch) {
    const Tensor h = to_host(model_.infer(ids.to(device_), batch));
    const Tensor weight = whole_tensor(head(), head().value, communicator_);
    const double cap = golden_.model.config.final_softcap.value_or(0);
    Tensor logits = Tensor::empty({h.rows(), weight.rows()}, DType::kF32);
    for (std::int64_t token = 0; token < h.rows(); ++token) {
      for (std::int64_t word = 0; word < weight.rows(); ++word) {
        const float *x = h.data<float>() + token * h.row_stride(),
                    *w = weight.data<float>() + word * weight.row_stride();
        const double score = std::inner_product(x, x + h.cols(), w, 0.0);
        logits.data<float>()[token * weight.rows() + word] =
            static_cast<float>(cap > 0 ? cap * std::tanh(score / cap) : score);
      }
    }
    return logits;
  }

  // Leaves the gradients of the mean loss, complete on every rank, in the store.
  double loss_and_gradients(const Tensor& ids, const Tensor& targets, std::int64_t batch) {
    store_.zero_grads();
    Model::Saved saved;
    Tensor loss = Tensor::zeros({1}, DType::kF64, device_), dh;
    const Tensor h = model_.forward(ids.to(device_), batch, saved);
    model_.output_loss().loss_and_gradient(h, targets.to(device_),
                                           1.0 / static_cast<double>(ids.numel()), loss, dh);
    model_.backward(dh, saved);
    sum_gradients(store_, *solo_);
    return loss.to(Device::kCpu).data<double>()[0];
  }

  double gradient_norm() const {
    return std::sqrt(
        squared_gradient_norm(store_, communicator_).to(Device::kCpu).data<double>()[0]);
  }

  // The gradients as the folder names and stores them.
  std::map<std::string, Tensor> stored_gradients() {
    std::map<std::string, Tensor> gradients;
    for (const Parameter* parameter : model_.parameters()) {
      gradients[parameter->name] = whole_gradient(*parameter, communicator_);
    }
    for (const PackedTensor& packed : golden_.model.layout.tensors) {
      std::vector<Tensor> parts;
      for (const PackedTensor::Part& part : packed.parts) {
        parts.push_back(gradients.extract(part.parameter).mapped());
      }
      gradients[packed.name] = packed_tensor(packed, stacked(parts));
    }
    return gradients;
  }

  void compare_gradients(GoldenErrors& errors) {
    const std::int64_t batch = golden_.tensors.info("input_ids").shape[0];
    errors.loss = error(loss_and_gradients(golden_.ids("input_ids"), golden_.ids("targets"), batch),
                        figure("loss"));
    errors.gradient_norm = error(gradient_norm(), figure("grad_norm"));
    const std::map<std::string, Tensor> gradients = stored_gradients();
    double largest = 0;
    for (const auto& [name, gradient] : gradients) largest = std::max(largest, max_abs(gradient));
    std::size_t compared = 0;
    for (const std::string& stored : golden_.tensors.names()) {
      if (!stored.starts_with("grad.")) continue;
      const std::string name = stored.substr(std::string("grad.").size());
      const auto found = gradients.find(name);
      require(found != gradients.end(), "{} is no parameter", name);
      const double difference =
          relative_error(found->second, golden_.tensors.read(stored), 1e-3 * largest);
      if (difference >= errors.gradients) errors.worst_gradient = name;
      errors.gradients = std::max(errors.gradients, difference);
      ++compared;
    }
    require(compared == gradients.size(), "{} gradients of {}", compared, gradients.size());
  }

  std::vector<std::int64_t> greedy() {
    std::vector<std::int64_t> tokens = figure("prompt"), followers;
    while (followers.size() < figure("greedy").size()) {
      Tensor ids = Tensor::empty({static_cast<std::int64_t>(tokens.size())}, DType::kI32);
      std::ranges::copy(tokens, ids.data<std::int32_t>());
      const Tensor logits = logits_of(ids, 1);
      const float* last = logits.data<float>() + (logits.rows() - 1) * logits.cols();
      followers.push_back(std::max_element(last, last + logits.cols()) - last);
      tokens.push_back(followers.back());
    }
    return followers;
  }

  double perplexity_error(WindowMethod method, const char* name) {
    const nlohmann::json& wanted = figure(name);
    const Tensor stream = golden_.ids("stream");
    double weighted = 0, weights = 0;
    for (const EvaluationWindow& window :
         evaluation_windows(method, stream.numel(), wanted.at("window"), wanted.at("stride"))) {
      const auto part = [&](std::int64_t shift) {
        return stream.row_slice(window.begin + shift, window.begin + shift + window.length);
      };
      const Tensor h = model_.infer(part(0).to(device_), 1);
      const Tensor losses = to_host(model_.output_loss().losses(h, part(1).to(device_)));
      const float* scored = losses.data<float>() + window.first_scored;
      const double sum = std::accumulate(scored, scored + window.scored(), 0.0);
      weighted += window.weight * sum / static_cast<double>(window.scored());
      weights += window.weight;
    }
    require(weights == wanted.at("tokens_scored").get<double>(), "{} tokens scored", weights);
    return error(std::exp(weighted / weights), wanted.at("ppl"));
  }

  void compare_training(GoldenErrors& errors) {
    const nlohmann::json& training = figure("train");
    AdamW optimizer(store_, {.beta1 = training.at("betas")[0],
                             .beta2 = training.at("betas")[1],
                             .epsilon = training.at("eps"),
                             .weight_decay = training.at("weight_decay_2d"),
                             .rounding = {}});
    const Shape shape = golden_.tensors.info("train_tokens").shape;  // (steps, B, S + 1)
    const Tensor tokens = golden_.ids("train_tokens").reshaped(shape);
    const std::int64_t batch = shape[1], length = shape[2] - 1;
    for (std::int64_t step = 0; step < shape[0]; ++step) {
      const Tensor rows = tokens.row_slice(step, step + 1).reshaped({batch, length + 1});
      const auto flat = [&](std::int64_t begin) {
        return rows.column_slice(begin, begin + length).clone().reshaped({batch * length});
      };
      const double loss = loss_and_gradients(flat(0), flat(1), batch);
      const auto at_step = static_cast<std::size_t>(step);
      const auto keep_largest = [](double& largest, double error) {
        largest = std::max(largest, std::isnan(error) ? INFINITY : error);
      };
      keep_largest(errors.training_losses, error(loss, training.at("losses")[at_step]));
      keep_largest(errors.training_norms,
                   error(gradient_norm(), training.at("grad_norms")[at_step]));
      const Tensor squares = squared_gradient_norm(store_, communicator_);
      Tensor scale = Tensor::empty_like(squares);
      ops::clip_scale(squares, training.at("clip"), scale);
      optimizer.step(training.at("lr"), scale);
    }
  }

  const GoldenFolder& golden_;
  const Communicator& communicator_;
  Device device_;
  std::unique_ptr<Communicator> solo_ = make_solo_communicator();  // of data-parallel ranks
  TensorParallel parallel_;
  Model model_;
  ParameterStore store_;
};

}  // namespace polyhead::testing
