#include "scripts/conversion_calibration.h"

#include "framework/checkpoint/checkpoint.h"
#include "framework/error.h"
#include "layers/conversion/head_tensors.h"
#include "layers/huggingface/tensor_layout.h"

namespace polyhead {
namespace {

IndexedDataset open_dataset(const ModelSource& source, const std::string& prefix) {
  IndexedDataset dataset(prefix);
  const std::string& own = source.tokenizer_fingerprint;
  const std::string other =
      dataset.description() ? dataset.description()->tokenizer_fingerprint : "";
  require(own == other || own.empty() || other.empty(),
          "--calibrate {}: was made with another tokenizer (fingerprint {}) than {} was trained "
          "with (fingerprint {}); tokenize the text with the one in the checkpoint's folder",
          prefix, other, source.folder.string(), own);
  return dataset;
}

}  // namespace

ConversionCalibration::ConversionCalibration(const ModelSource& source,
                                             const std::string& dataset_prefix, std::int64_t tokens)
    : dataset_(dataset_prefix),
      folder_(source.folder),
      layout_(source.layout),
      context_(source.sequence_length),
      solo_(make_solo_communicator()),
      source_(source, context_, InferenceOptions{}, *solo_),
      text_(calibration_text(open_dataset(source, dataset_prefix), context_, tokens,
                             source.model.vocab_size.value())),
      inputs_(attention_inputs(source_.model(), source_.device(), text_)) {}

ModelFidelity ConversionCalibration::compare_with_model(
    const ModelConfig& config, const std::function<void(ParameterStore&)>& fill) const {
  const Compute compute = choose_compute(DeviceChoice::kAuto, Precision::kAuto, "--device");
  TensorParallel parallel(*solo_, /*sequence_parallel=*/false);
  Model child(config, context_, parallel, compute.dtype, Recompute::kNone, compute.device);
  ParameterStore store =
      ParameterStore::of_values(child.parameters(), compute.dtype, compute.device);
  fill(store);
  return model_fidelity(source_.model(), child, compute.device, text_);
}

ModelFidelity ConversionCalibration::compare_with(const ModelConfig& config,
                                                  const std::filesystem::path& folder) const {
  return compare_with_model(config, [&](ParameterStore& store) {
    load_parameters(folder, store, written_layout(config));
  });
}

ModelFidelity ConversionCalibration::compare_with(
    const ModelConfig& config,
    const std::function<const AttentionTensors&(std::int64_t layer)>& attention) const {
  const ParameterReader reader({folder_, "model"}, layout_);
  const auto value_of = [&](const std::string& parameter) {
    if (const auto parsed = attention_tensor_name(parameter)) {
      const AttentionTensors& tensors = attention(parsed->layer);
      const auto found = tensors.find(parsed->name);
      if (found != tensors.end()) return found->second;
    }
    return reader.read(parameter);
  };
  return compare_with_model(config, [&](ParameterStore& store) {
    for (const Segment& segment : store.segments()) {
      const Parameter& parameter = *segment.parameter;
      const Tensor host = Tensor::zeros(parameter.local_shape, store.masters().dtype());
      valid_part(parameter, host)
          .copy_from(rounded_copy(exact_copy(value_of(parameter.name)), host.dtype()));
      store.set_value(segment, host);
    }
  });
}

}  // namespace polyhead
