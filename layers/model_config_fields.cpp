#include "layers/model_config_fields.h"

#include "framework/config/field_reader.h"
#include "framework/config/field_writer.h"

namespace polyhead {

void read_value(const YamlNode& node, WindowPattern& pattern) {
  if (node.kind == YamlNode::Kind::kSequence) {
    read_value(node, pattern.layers);
    if (pattern.layers.empty()) refuse_value(node, "must list 1 or 0 for every layer");
  } else {
    read_value(node, pattern.global_every);
  }
}

std::string yaml_text(const WindowPattern& pattern) {
  return pattern.layers.empty() ? yaml_text(pattern.global_every) : yaml_text(pattern.layers);
}

}  // namespace polyhead
