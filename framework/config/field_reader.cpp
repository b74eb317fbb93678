#include "framework/config/field_reader.h"

#include <algorithm>

#include "framework/config/yaml_parser.h"
#include "framework/error.h"

namespace polyhead {

FieldReader::FieldReader(YamlNode& node, std::string section, ReadContext& context)
    : node_(node), section_(std::move(section)), context_(context) {
  if (node.kind != YamlNode::Kind::kMapping) {
    context.problems.add(node.place, section_,
                         fmt::format("got {}; must be a mapping of keys to values", node.shown()));
  }
  context.places[section_] = node.place;
}

std::string FieldReader::path(std::string_view key) const {
  return section_.empty() ? std::string(key) : section_ + "." + std::string(key);
}

YamlEntry* FieldReader::find(std::string_view key, const FieldOptions& options) {
  YamlEntry* found = node_.find(key);
  if (found != nullptr) read_.insert(found->name);
  if (context_.mode == ReadMode::kResolved) return found;
  for (const std::string_view alias : options.aliases) {
    YamlEntry* entry = node_.find(alias);
    if (entry == nullptr) continue;
    read_.insert(entry->name);
    if (found != nullptr) {
      context_.problems.add(entry->place, path(alias),
                            fmt::format("is another spelling of {}, given in line {}; delete one",
                                        found->name, found->place.line));
    } else {
      found = entry;
    }
  }
  return found;
}

void FieldReader::report_absent(std::string_view key, const FieldOptions& options) {
  if (node_.kind != YamlNode::Kind::kMapping) return;
  if (context_.mode == ReadMode::kResolved) {
    context_.problems.add(node_.place, path(key),
                          "missing; a resolved configuration has every key");
  } else if (options.required) {
    context_.problems.add(node_.place, path(key), "missing; it has no default");
  }
}

void FieldReader::unsupported(std::string_view key, std::string_view neutral,
                              std::string_view advice) {
  const YamlEntry* entry = node_.find(key);
  if (entry == nullptr) return;
  read_.insert(entry->name);
  const std::string& text = entry->value.text;
  double number = 1.0;
  try {
    read_value(entry->value, number);
  } catch (const ValueProblem&) {
    number = -1.0;
  }
  if (!neutral.empty() && (text == neutral || fmt::format("{}", number) == neutral)) return;
  const std::string hint =
      neutral.empty() ? "" : fmt::format("; delete it, or leave it at {}", neutral);
  context_.problems.add(
      entry->value.place, path(key),
      fmt::format("got {}; not supported: {}{}", entry->value.shown(), advice, hint));
}

void FieldReader::report_unknown_keys() {
  for (const YamlEntry& entry : node_.entries) {
    if (!read_.contains(entry.name)) report_unknown(entry);
  }
}

void FieldReader::report_unknown(const YamlEntry& entry) {
  std::vector<std::string> siblings;
  std::string fix;
  for (const KnownKey& known : context_.known) {
    const bool here = known.section == section_;
    const bool same =
        known.name == entry.name ||
        std::find(known.aliases.begin(), known.aliases.end(), entry.name) != known.aliases.end();
    if (same && !here && !known.section.empty()) {
      fix = fmt::format("; it belongs to section {}", known.section);
    }
    if (!here) continue;
    siblings.push_back(known.name);
    siblings.insert(siblings.end(), known.aliases.begin(), known.aliases.end());
  }
  const std::string guess = nearest(entry.name, siblings);
  if (fix.empty() && !guess.empty()) fix = fmt::format("; did you mean {}?", guess);
  context_.problems.add(entry.place, path(entry.name), "unknown key" + fix);
}

std::size_t FieldReader::index_of_name(const YamlNode& node,
                                       const std::vector<std::string>& names) {
  const auto name = std::find(names.begin(), names.end(), node.text);
  if (node.kind == YamlNode::Kind::kScalar && name != names.end()) {
    return static_cast<std::size_t>(name - names.begin());
  }
  std::string rule = "must be one of ";
  for (std::size_t i = 0; i < names.size(); ++i) rule.append(i == 0 ? "" : ", ").append(names[i]);
  const std::string guess = nearest(node.text, names);
  refuse_value(node, guess.empty() ? rule : rule + "; did you mean " + guess + "?");
}

namespace {

// Marks a parsed value as coming from the command line.
void set_place(YamlNode& node, const Place& place) {
  node.place = place;
  for (YamlNode& item : node.items) set_place(item, place);
  for (YamlEntry& entry : node.entries) {
    entry.place = place;
    set_place(entry.value, place);
  }
}

// All spellings of one key, so that an override replaces the key however the file spells it.
std::vector<std::string> spellings(const std::string& section, const std::string& name,
                                   const std::vector<KnownKey>& known) {
  for (const KnownKey& key : known) {
    std::vector<std::string> names = {key.name};
    names.insert(names.end(), key.aliases.begin(), key.aliases.end());
    if (key.section == section && std::find(names.begin(), names.end(), name) != names.end()) {
      return names;
    }
  }
  return {name};
}

// The path of the innermost section that `path`, section.key or section.section.key, leads to.
std::string section_of(const std::string& path, const std::vector<KnownKey>& known) {
  std::size_t end = path.find('.');
  for (std::size_t next = end; next != std::string::npos; next = path.find('.', next + 1)) {
    const bool is_section = std::any_of(known.begin(), known.end(), [&](const KnownKey& key) {
      return key.section == path.substr(0, next);
    });
    if (is_section) end = next;
  }
  return path.substr(0, end);
}

// The mapping that lies in `node` under a path, made where there is none.
YamlNode& mapping_at(YamlNode& node, const std::string& path, const Place& place) {
  const std::size_t dot = path.find('.');
  const std::string name = path.substr(0, dot);
  YamlEntry* entry = node.find(name);
  if (entry == nullptr) entry = &node.entries.emplace_back(YamlEntry{name, place, {}});
  if (entry->value.kind == YamlNode::Kind::kNull) {
    entry->value = {};
    entry->value.kind = YamlNode::Kind::kMapping;
    entry->value.place = place;
  }
  return dot == std::string::npos ? entry->value
                                  : mapping_at(entry->value, path.substr(dot + 1), place);
}

}  // namespace

void apply_override(YamlNode& root, const std::string& assignment, ReadContext& context) {
  const Place place = {"--set " + assignment};
  const std::size_t equals = assignment.find('=');
  const std::string path = assignment.substr(0, equals);
  const std::size_t dot = path.find('.');
  if (equals == std::string::npos || dot == std::string::npos) {
    context.problems.add(place, "", "must read section.key=value");
    return;
  }
  Problems syntax;
  std::optional<YamlNode> value = parse_yaml(assignment.substr(equals + 1), place.source, syntax);
  if (!value || !syntax.empty()) {
    context.problems.add(place, path, "the value is no YAML; quote it");
    return;
  }
  set_place(*value, place);
  const std::string section = section_of(path, context.known);
  const std::string name = path.substr(section.size() + 1);
  YamlNode& mapping = mapping_at(root, section, place);
  const std::vector<std::string> replaced = spellings(section, name, context.known);
  std::erase_if(mapping.entries, [&](const YamlEntry& entry) {
    return std::find(replaced.begin(), replaced.end(), entry.name) != replaced.end();
  });
  mapping.entries.push_back({name, place, std::move(*value)});
}

}  // namespace polyhead
