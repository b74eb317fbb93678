#include "scripts/export.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "framework/checkpoint/checkpoint.h"
#include "framework/checkpoint/element_conversion.h"
#include "framework/checkpoint/parameter_writer.h"
#include "framework/comm/hang.h"
#include "framework/ops/elementwise.h"
#include "layers/huggingface/config_json.h"
#include "layers/huggingface/special_tokens.h"
#include "layers/huggingface/tensor_layout.h"
#include "layers/parameter_shapes.h"
#include "scripts/commands.h"
#include "scripts/companion_files.h"
#include "scripts/model_source.h"
#include "scripts/rank_0.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

bool is_float(DType dtype) {
  return dtype != DType::kI32 && dtype != DType::kI64;
}

// In `dtype`, where every finite number stays one.
Tensor exported(const TensorInfo& info, const Tensor& value, DType dtype) {
  if (value.dtype() == dtype) return value;
  require(converts(value.dtype(), dtype), "--dtype: {} is stored as {}, which does not become {}",
          info.name, name_of(value.dtype()), name_of(dtype));
  Tensor result = converted(value, dtype);
  const auto is_finite = [](const Tensor& tensor) {
    return ops::all_finite(tensor.dtype() == DType::kF32 ? tensor : converted(tensor, DType::kF32));
  };
  require(is_finite(result) || !is_finite(value),
          "--dtype: {} holds a number beyond the range of {}; use bfloat16 or float32", info.name,
          name_of(dtype));
  return result;
}

void write_tensors(const ModelSource& source, const std::optional<DType>& dtype,
                   const fs::path& folder) {
  const ParameterReader stored({source.folder, "model"}, source.layout);
  std::vector<TensorInfo> infos = stored.tensors();
  for (TensorInfo& info : infos) {
    require(is_float(info.dtype), "{}: {} holds {}, which no parameter is stored as",
            stored.file_of(info.name).string(), info.name, name_of(info.dtype));
    if (dtype) info.dtype = *dtype;
  }
  const ParameterReader exact = open_parameters(source.folder, source.layout);
  ParameterWriter writer(folder, "model", infos, written_layout(source.model));
  for (const TensorInfo& info : writer.parameters()) {
    const bool same = stored.info(info.name).dtype == info.dtype;
    writer.write(exported(info, (same ? stored : exact).read(info.name), info.dtype));
    still_working();
  }
  writer.finish();
}

void require_parameters(const ModelSource& source) {
  const ParameterReader reader({source.folder, "model"}, source.layout);
  const std::vector<ParameterShape> shapes = parameter_shapes(source.model, 1);
  for (const ParameterShape& shape : shapes) {
    const TensorInfo info = reader.info(shape.name);
    require(info.shape == shape.global, "{}: {} has shape {}, this model needs {}",
            reader.file_of(shape.name).string(), shape.name, info.shape.to_string(),
            shape.global.to_string());
  }
  for (const std::string& name : reader.names()) {
    require(std::ranges::any_of(shapes, [&](const auto& shape) { return shape.name == name; }),
            "{}: {} is not a parameter of this model", reader.file_of(name).string(),
            excerpt(name));
  }
}

}  // namespace

std::string export_model(const ExportOptions& options) {
  const fs::path& destination = options.destination;
  require(!fs::exists(destination), "{} exists already; remove it or choose another --out",
          destination.string());
  const ModelSource source = open_model_source(options.source);
  if (source.trainer) verify_checkpoint(source.folder);
  require_parameters(source);
  const SpecialTokens tokens = read_special_tokens(source.folder, source.model.vocab_size.value());

  if (destination.has_parent_path()) fs::create_directories(destination.parent_path());
  CheckpointTransaction transaction(destination);
  const fs::path& folder = transaction.folder();
  const DType dtype = options.dtype.value_or(stored_dtype(source));
  write_tensors(source, options.dtype, folder);
  write_durably(folder, "config.json",
                huggingface_config_json(source.model, source.sequence_length, dtype, tokens));
  const std::vector<std::string> companions = companion_files(source);
  for (const std::string& name : companions) copy_durably(source.folder / name, folder, name);
  if (std::ranges::find(companions, kGenerationConfig) == companions.end()) {
    write_durably(folder, kGenerationConfig, generation_config_json(tokens));
  }
  transaction.commit_model();
  const std::string_view model_type = huggingface_model_type(source.model);
  return fmt::format("exported {} to {} (model_type {}, {}){}", source.folder.string(),
                     destination.string(), model_type, name_of(dtype),
                     model_type == "polyhead"
                         ? "; no class of transformers computes this model, so only Polyhead reads "
                           "it"
                         : "");
}

void add_export_command(CLI::App& app, const Communicator& world) {
  static const std::map<std::string, std::optional<DType>> kTypes = {{"auto", std::nullopt},
                                                                     {"float32", DType::kF32},
                                                                     {"bfloat16", DType::kBf16},
                                                                     {"float16", DType::kF16}};
  struct Arguments {
    ExportOptions options;
    std::string dtype = "auto";
  };
  CLI::App* command =
      app.add_subcommand("export", "Write a model as a Hugging Face folder, without the training");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("source", arguments->options.source,
                   "A checkpoint, a run folder for its latest, or a model folder")
      ->required();
  command
      ->add_option("--out", arguments->options.destination,
                   "Folder of the result, which must not exist")
      ->required();
  command->add_option("--dtype", arguments->dtype, "Of the tensors; auto: as they are stored")
      ->check(CLI::IsMember(kTypes));
  command->callback([arguments, &world] {
    arguments->options.dtype = kTypes.at(arguments->dtype);
    run_on_rank_0(world, [&] { std::printf("%s\n", export_model(arguments->options).c_str()); });
  });
}

}  // namespace polyhead
