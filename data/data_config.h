// The data section of a configuration: which tokens a run reads, in which order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/data_source.h"
#include "framework/config/enum_names.h"
#include "framework/config/fields.h"
#include "framework/config/rules.h"
#include "framework/config/yaml_node.h"

namespace polyhead {

struct DataConfig {
  std::vector<DataSource> train;
  std::vector<DataSource> validation;
  std::optional<std::string> split;  // of train, in place of validation; see split_documents
  std::int64_t sequence_length = 0;
  SampleOrder sample_order = SampleOrder::kPolyhead;
  bool attend_across_documents = true;
  bool eod_mask_loss = false;
  std::optional<std::string> tokenizer;  // absent: the one that train's description names
};

std::vector<RuleViolation> data_rule_violations(const DataConfig& config);

// A path, or {path: ..., weight: ...}.
void read_value(const YamlNode& node, DataSource& source);
std::string yaml_text(const DataSource& source);

template <>
struct EnumNames<SampleOrder> {
  static constexpr std::array kNames = {"polyhead", "megatron"};
};

template <class Visitor>
void visit_fields(Visitor& visitor, DataConfig& config) {
  visitor("train", config.train, {.required = true, .aliases = {"train_data_path"}});
  visitor("validation", config.validation, {.aliases = {"valid_data_path"}});
  visitor("split", config.split);
  visitor("sequence_length", config.sequence_length, {.required = true, .aliases = {"seq_length"}});
  visitor("sample_order", config.sample_order);
  visitor("attend_across_documents", config.attend_across_documents);
  visitor("eod_mask_loss", config.eod_mask_loss);
  visitor("tokenizer", config.tokenizer, {.aliases = {"tokenizer_model"}});

  visitor.unsupported("reset_attention_mask", "false", "use attend_across_documents: false");
  visitor.unsupported("reset_position_ids", "false", "positions run on across documents");
}

}  // namespace polyhead
