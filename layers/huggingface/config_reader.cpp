#include "layers/huggingface/config_reader.h"

#include "framework/files/mapped_file.h"
#include "layers/huggingface/config_families.h"
#include "layers/huggingface/config_fields.h"
#include "layers/huggingface/harmless_keys.h"
#include "layers/huggingface/tensor_layout.h"

namespace polyhead {
namespace {

std::string supported_families() {
  std::string names;
  for (const ConfigFamily& family : config_families()) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", family.model_type);
  }
  return names;
}

const ConfigFamily& family_of(ConfigFields& fields) {
  const std::optional<std::string> model_type = fields.text("model_type");
  require(model_type.has_value(), "{}: model_type is missing; it names one of {}", fields.source(),
          supported_families());
  for (const ConfigFamily& family : config_families()) {
    if (family.model_type == *model_type) return family;
  }
  fields.refuse("model_type", "the families that are read are " + supported_families());
}

void require_buildable(const ModelConfig& config, const std::string& source) {
  std::string problems;
  for (const RuleViolation& violation : model_rule_violations(config, 1)) {
    problems += fmt::format("\n  {}: {}", violation.key, violation.message);
  }
  require(problems.empty(), "{}: no such model can be built; in Polyhead's words:{}", source,
          problems);
}

StoredFormat stored_format(ConfigFields& fields) {
  StoredFormat format;
  format.model_type = fields.text("model_type").value_or("");
  // The class of DeepSeek-V2 has no such key, that of V3 it turns on; Polyhead's own files say it.
  const bool absent = format.model_type != "polyhead";
  format.rope_interleave = fields.flag("rope_interleave").value_or(absent);
  return format;
}

}  // namespace

HuggingFaceModel parse_huggingface_config(std::string_view text, const std::string& source) {
  const nlohmann::json json = parse_config_object(text, source);
  ConfigFields fields(json, source);
  const ConfigFamily& family = family_of(fields);
  HuggingFaceModel model;
  model.model_type = family.model_type;
  family.read(fields, model.config);
  if (model.config.is_latent()) stored_format(fields);
  refuse_unknown_keys(fields, family.model_type);
  model.dropout = fields.dropout();
  require_buildable(model.config, source);
  ConfigFields again(json, source);
  model.layout =
      huggingface_layout(model.config, family.model_type, stored_format(again).rope_interleave);
  return model;
}

HuggingFaceModel read_huggingface_model(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  return parse_huggingface_config(MappedFile(path).text(), path.string());
}

StoredFormat read_stored_format(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  const nlohmann::json json = parse_config_object(MappedFile(path).text(), path.string());
  ConfigFields fields(json, path.string());
  return stored_format(fields);
}

}  // namespace polyhead
