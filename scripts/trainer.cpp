#include "scripts/trainer.h"

#include <omp.h>

#include <algorithm>
#include <cmath>

#include "framework/device_system.h"
#include "framework/dispatch.h"
#include "framework/ops/elementwise.h"
#include "framework/ops/matmul.h"
#include "optim/gradients.h"
#include "scripts/matmul_record.h"
#include "scripts/rank_0.h"
#include "scripts/uptraining.h"

namespace polyhead {
namespace {

TrainingDataOptions data_options(const TrainConfig& config, DatasetPart part) {
  const DataConfig& data = config.data;
  const bool own_files = part == DatasetPart::kValidation && !data.validation.empty();
  return {.sources = own_files ? data.validation : data.train,
          .key = own_files ? "data.validation" : "data.train",
          .split = own_files ? "" : data.split.value_or(""),
          .part = own_files ? DatasetPart::kTrain : part,
          .sequence_length = data.sequence_length,
          .seed = static_cast<std::uint64_t>(config.training.seed),
          // Megatron's order is made for the number of samples that training reads.
          .order = part == DatasetPart::kTrain ? data.sample_order : SampleOrder::kPolyhead,
          .num_samples = config.training.train_steps * config.training.global_batch_size,
          .vocab_size = config.model.vocab_size,
          .tokenizer = data.tokenizer,
          .eod_mask_loss = data.eod_mask_loss,
          .attend_across_documents = data.attend_across_documents};
}

// A dataset that only some ranks cannot read is an error on all.
TrainingData open_data(const Communicator& world, const TrainingDataOptions& options) {
  std::optional<TrainingData> data;
  run_on_all_ranks(world, [&] { data.emplace(options); });
  return std::move(*data);
}

// Rank 0 reads the data, for all.
std::string verified_fingerprint(const Communicator& world, const TrainingData& data) {
  return told_by_rank_0(world,
                        [&] { return fmt::format("{}", fmt::join(data.fingerprints(), ",")); });
}

// None where nothing will be evaluated.
std::optional<TrainingData> open_validation(const Communicator& world, const TrainConfig& config,
                                            const TrainingData& training) {
  if (config.training.eval_interval == 0) return std::nullopt;
  TrainingData data = open_data(world, data_options(config, DatasetPart::kValidation));
  const std::string &own = data.tokenizer_fingerprint(), &other = training.tokenizer_fingerprint();
  require(same_tokenizer(own, other),
          "data.validation: was made with another tokenizer (fingerprint {}) than data.train "
          "(fingerprint {}); tokenize it with the same",
          own, other);
  return data;
}

const Communicator& connected(const Communicator& world, Device device, bool records) {
  if (device != Device::kCpu) world.connect_devices();
  require(
      !records || world.size() == 1 || world.runs_beside(device),
      "training.cuda_graph: these ranks talk through host memory (no NCCL, or several of them on "
      "a device), which cannot be recorded; set it to false");
  return world;
}

TrainConfig with_vocabulary(TrainConfig config, const TrainingData& data) {
  config.model.vocab_size = data.vocab_size();
  return config;
}

Batch on_device(Batch batch, Device device) {
  batch.tokens = batch.tokens.to(device);
  batch.targets = batch.targets.to(device);
  if (batch.document_start) batch.document_start = batch.document_start.to(device);
  return batch;
}

std::unique_ptr<const Teacher> make_teacher(const TrainConfig& config, const TrainingData& data,
                                            const Compute& compute, const Communicator& world,
                                            TensorParallel& parallel) {
  if (!config.distillation()) return nullptr;
  return std::make_unique<Teacher>(config, data.tokenizer_fingerprint(), compute, world, parallel);
}

// Waits for the device.
std::vector<double> numbers_in(const Tensor& vector) {
  const Tensor host = vector.to(Device::kCpu);
  return {host.data<double>(), host.data<double>() + host.numel()};
}

double sum_over(const Communicator& group, double number) {
  Tensor sum = Tensor::empty({1}, DType::kF64);
  sum.data<double>()[0] = number;
  group.all_reduce(sum);
  return sum.data<double>()[0];
}

ops::AdamwOptions adamw_options(const OptimizerConfig& config) {
  return {.beta1 = config.adam_beta1,
          .beta2 = config.adam_beta2,
          .epsilon = config.adam_epsilon,
          .weight_decay = config.weight_decay};
}

// Empty where this rank's losses and gradients are finite.
std::string describe_problem(const std::vector<double>& losses, const Parameter* non_finite) {
  std::string problem = std::isfinite(losses[0]) ? "" : fmt::format("loss {}", losses[0]);
  if (losses.size() > 1 && !std::isfinite(losses[1])) {
    problem += fmt::format("{}distillation_loss {}", problem.empty() ? "" : ", ", losses[1]);
  }
  if (non_finite) {
    problem +=
        fmt::format("{}non-finite gradient of {}", problem.empty() ? "" : ", ", non_finite->name);
  }
  return problem;
}

}  // namespace

Trainer::Trainer(const TrainConfig& config, const Communicator& world)
    : compute_(
          choose_compute(config.training.device, config.training.precision, "training.device")),
      layout_(connected(world, compute_.device, config.training.cuda_graph),
              static_cast<int>(config.parallel.tensor_model_parallel_size)),
      parallel_(*layout_.tensor, config.parallel.sequence_parallel),
      data_(open_data(world, data_options(config, DatasetPart::kTrain))),
      config_(with_vocabulary(config, data_)),
      validation_(open_validation(world, config_, data_)),
      model_(config_.model, config_.data.sequence_length, parallel_, compute_.dtype,
             config_.training.recompute, compute_.device),
      store_(model_.parameters(), compute_.dtype, compute_.device,
             config_.parallel.distributed_optimizer ? layout_.data.get() : nullptr),
      teacher_(make_teacher(config_, data_, compute_, world, parallel_)),
      optimizer_(store_, adamw_options(config_.optimizer),
                 moments_dtype(config_.optimizer, compute_.dtype),
                 static_cast<std::uint64_t>(config_.training.seed)),
      schedule_(learning_rate_schedule(config_)),
      loss_(Tensor::zeros({teacher_ ? 2 : 1}, DType::kF64, compute_.device)),
      squared_norm_(Tensor::zeros({1}, DType::kF64, compute_.device)) {
  state_.seed = static_cast<std::uint64_t>(config_.training.seed);
  state_.config = to_yaml(config_);
  state_.dataset_fingerprint = verified_fingerprint(world, data_);
  if (validation_) verified_fingerprint(world, *validation_);
  state_.tokenizer_fingerprint = data_.tokenizer_fingerprint();
  if (teacher_) state_.teacher = teacher_->hash();
  state_.environment = {
      .blas = dispatch(compute_.device, []<Device D>() { return DeviceSystem<D>::describe(); }),
      .threads = omp_get_max_threads(),
      .world_size = world.size(),
      .tensor_model_parallel_size = layout_.tensor->size(),
      .data_parallel_size = layout_.data->size()};
}

void Trainer::initialize() {
  store_.initialize(state_.seed);
}

void Trainer::settle_products() {
  if (products_settled_) return;
  products_settled_ = true;
  if (config_.training.deterministic) return ops::set_matmul_measuring(compute_.device, false);
  settle_matmuls(config_.checkpoint.folder, layout_.world, compute_.device, [&] {
    // The first micro-batch's products write the weights' gradients, all later ones' add to them.
    const std::int64_t samples =
        std::min(2 * config_.training.micro_batch_size,
                 config_.training.global_batch_size / layout_.data->size());
    store_.zero_grads();
    forward_backward(on_device(data_.batch(0, samples), compute_.device), /*weight=*/0);
  });
}

StepResult Trainer::step() {
  settle_products();
  const CommunicationCount before = communication();
  const double weight = 1.0 / std::max(1.0, sum_over(*layout_.data, load_batch()));
  ++state_.step;
  state_.samples += config_.training.global_batch_size;
  state_.tokens += config_.training.global_batch_size * config_.data.sequence_length;
  const double rate = learning_rate(schedule_, state_.step);
  optimizer_.begin_update(rate);
  if (config_.training.cuda_graph && computed_) {
    play_step(weight);
  } else {
    compute_step(weight);
    computed_ = true;
  }
  const std::vector<double> losses = numbers_in(loss_);  // here the host waits for the step
  StepResult result{.loss = losses[0],
                    .gradient_norm = std::sqrt(numbers_in(squared_norm_)[0]),
                    .learning_rate = rate,
                    .communication = communication() - before,
                    .problem = {}};
  if (teacher_) result.distillation_loss = losses[1];
  if (!std::isfinite(result.gradient_norm)) {
    optimizer_.set_updates(optimizer_.updates() - 1);
    result.problem = explain_skipped_update(batch_, weight);
  }
  return result;
}

double Trainer::load_batch() {
  const std::int64_t mine = config_.training.global_batch_size / layout_.data->size();
  const Batch batch = data_.batch(state_.samples + layout_.data->rank() * mine, mine);
  if (!batch_.tokens) {
    batch_ = on_device(batch, compute_.device);
  } else {
    batch_.tokens.copy_from(batch.tokens);
    batch_.targets.copy_from(batch.targets);
    if (batch.document_start) batch_.document_start.copy_from(batch.document_start);
  }
  return static_cast<double>(batch.valid_targets);
}

void Trainer::compute_step(double weight) {
  store_.zero_grads();
  GradientSum sum(store_, *layout_.data);
  loss_.copy_from(
      forward_backward(batch_, weight, [&](const Parameter& first) { sum.add_final(first); }));
  sum.finish();
  layout_.data->all_reduce(loss_);
  squared_norm_.copy_from(squared_gradient_norm(store_, *layout_.tensor));
  ops::add_sum(/*factor=*/0, loss_, squared_norm_);  // NaN where a loss is not finite
  Tensor scale = Tensor::empty_like(squared_norm_);
  ops::clip_scale(squared_norm_, config_.optimizer.clip_grad_norm, scale);
  optimizer_.finish_update(scale);  // makes no update where the scale is NaN
}

void Trainer::play_step(double weight) {
  if (!recording_) {
    const CommunicationCount before = communication();
    recording_ = record_work(compute_.device, [&] { compute_step(weight); });
    recorded_weight_ = weight;
    recorded_communication_ = communication() - before;
    return recording_->play();
  }
  // The weight of a token lies in the recording.
  if (weight != recorded_weight_) return compute_step(weight);
  recording_->play();
  played_communication_ = played_communication_ + recorded_communication_;
}

std::string Trainer::explain_skipped_update(const Batch& batch, double weight) {
  store_.zero_grads();
  const std::vector<double> losses = numbers_in(forward_backward(batch, weight));
  const std::string problem =
      agree_on_problems(layout_.world, describe_problem(losses, first_non_finite_gradient(store_)));
  if (!problem.empty()) return problem;
  sum_gradients(store_, *layout_.data);
  const Parameter* overflowed = first_non_finite_gradient(store_);
  return agree_on_problems(
      layout_.world,
      overflowed ? "the sum over ranks of the gradient of " + overflowed->name + " overflows"
                 : "a number was not finite, and was when the step was computed once more");
}

Tensor Trainer::forward_backward(const Batch& batch, double weight,
                                 const Model::GradientsFinal& on_final) {
  const std::int64_t sequences = config_.training.micro_batch_size;
  const std::int64_t tokens = sequences * config_.data.sequence_length;
  Tensor loss = Tensor::zeros_like(loss_);
  for (std::int64_t begin = 0; begin < batch.tokens.numel(); begin += tokens) {
    const auto part_of = [&](const Tensor& whole) {
      return whole ? whole.row_slice(begin, begin + tokens) : whole;
    };
    const Tensor inputs = part_of(batch.tokens), targets = part_of(batch.targets);
    const Tensor document_start = part_of(batch.document_start);
    // The teacher first: the student's activations are not there yet.
    Tensor known;  // (N or N / P, teacher's D)
    if (teacher_) known = teacher_->infer(inputs, sequences, document_start);
    Model::Saved saved;
    Tensor dh;                                                                  // (N or N / P, D)
    const Tensor h = model_.forward(inputs, sequences, saved, document_start);  // (N or N / P, D)
    if (teacher_) {
      model_.output_loss().loss_and_gradient(h, teacher_->with(known), targets, weight, loss, dh);
      known = {};
    } else {
      model_.output_loss().loss_and_gradient(h, targets, weight, loss, dh);
    }
    const bool last = begin + tokens == batch.tokens.numel();
    model_.backward(dh, saved, last ? on_final : nullptr);
  }
  return loss;
}

EvaluationResult Trainer::evaluate() {
  POLYHEAD_CHECK(validation_, "there is no validation data");
  const std::int64_t length = config_.data.sequence_length;
  const std::int64_t sequences = config_.training.micro_batch_size;
  const std::int64_t all = std::max<std::int64_t>(1, (validation_->token_count() - 1) / length);
  const std::int64_t samples = std::min(all, config_.training.eval_samples.value_or(all));
  double loss = 0, scored = 0;
  // Ranks take turns; the last batch is filled up with samples that do not count.
  const std::int64_t stride = sequences * layout_.data->size();
  for (std::int64_t first = sequences * layout_.data->rank(); first < samples; first += stride) {
    Batch batch = validation_->batch(first, sequences);
    for (std::int64_t i = (samples - first) * length; i < batch.targets.numel(); ++i) {
      batch.targets.data<std::int32_t>()[i] = -1;
    }
    const Batch moved = on_device(batch, compute_.device);
    const Tensor h = model_.infer(moved.tokens, sequences, moved.document_start);
    const Tensor losses =
        model_.output_loss().losses(h, moved.targets).to(Device::kCpu);  // (N) f32
    for (std::int64_t i = 0; i < losses.numel(); ++i) {
      loss += losses.data<float>()[i];
      scored += batch.targets.data<std::int32_t>()[i] >= 0 ? 1 : 0;
    }
  }
  scored = sum_over(*layout_.data, scored);
  return {.loss = sum_over(*layout_.data, loss) / std::max(1.0, scored),
          .tokens = static_cast<std::int64_t>(scored)};
}

}  // namespace polyhead
