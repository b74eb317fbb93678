#include "data/tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "data/byte_level.h"
#include "framework/error.h"
#include "framework/files/json.h"

namespace polyhead {
namespace {

using nlohmann::json;
using Names = std::vector<std::string>;

constexpr std::size_t kLargestFile = std::size_t{256} << 20;
constexpr std::uint64_t kLargestId = (1u << 22) - 1;
constexpr std::size_t kMostSteps = 16;

// An object of the file; its place begins every message.
class Section {
 public:
  Section(const json& object, std::string place) : object_(object), place_(std::move(place)) {
    require(object.is_object(), "{}: not an object but {}", place_, object.type_name());
  }

  const std::string& place() const { return place_; }
  std::string place_of(const std::string& key) const { return place_ + "." + key; }

  // null where the key is absent.
  const json& at(const std::string& key) const {
    static const json absent;
    const auto found = object_.find(key);
    return found == object_.end() ? absent : *found;
  }

  bool flag(const std::string& key, const json& absent = {}) const {
    const json& value = at(key).is_null() ? absent : at(key);
    require(value.is_boolean(), "{}: true or false is expected, not {}", place_of(key),
            value.type_name());
    return value.get<bool>();
  }

  const std::string& text(const std::string& key) const {
    const json& value = at(key);
    require(value.is_string(), "{}: a string is expected, not {}", place_of(key),
            value.type_name());
    return value.get_ref<const std::string&>();
  }

  const json& array(const std::string& key) const {
    const json& value = at(key);
    require(value.is_array(), "{}: an array is expected, not {}", place_of(key), value.type_name());
    return value;
  }

  const std::string& choice(const std::string& key, const Names& supported) const {
    const std::string& value = text(key);
    require(std::find(supported.begin(), supported.end(), value) != supported.end(),
            "{}: '{}' is not supported; supported is {}", place_of(key), value,
            fmt::join(supported, ", "));
    return value;
  }

  // What is unknown may change the tokens.
  void allow_only(const Names& keys) const {
    for (const auto& item : object_.items()) {
      require(std::find(keys.begin(), keys.end(), item.key()) != keys.end(),
              "{}: the key '{}' is not known", place_, item.key());
    }
  }

 private:
  const json& object_;
  std::string place_;
};

std::int32_t read_id(const json& value, const std::string& place) {
  require(value.is_number_unsigned() && value.get<std::uint64_t>() <= kLargestId,
          "{}: an id is a number from 0 to {}", place, kLargestId);
  return static_cast<std::int32_t>(value.get<std::uint64_t>());
}

void read_normalizer(const json& value, const std::string& place,
                     TokenizerDescription& description) {
  if (value.is_null()) return;
  const Section normalizer(value, place);
  if (normalizer.choice("type", {"NFC", "Sequence"}) == "Sequence") {
    normalizer.allow_only({"type", "normalizers"});
    const json& steps = normalizer.array("normalizers");
    for (std::size_t i = 0; i < steps.size(); ++i) {
      read_normalizer(steps[i], fmt::format("{}.normalizers[{}]", place, i), description);
    }
    return;
  }
  normalizer.allow_only({"type"});
  description.nfc = true;
}

void read_byte_level(const Section& step, TokenizerDescription& description) {
  step.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  description.add_prefix_space = step.flag("add_prefix_space");
  description.split_by_gpt2_pattern = step.flag("use_regex", true);
}

void read_split(const Section& step, TokenizerDescription& description) {
  step.allow_only({"type", "pattern", "behavior", "invert"});
  step.choice("behavior", {"Isolated"});
  require(!step.flag("invert"), "{}: inverted patterns are not supported", step.place());
  const Section pattern(step.at("pattern"), step.place_of("pattern"));
  pattern.allow_only({"Regex"});
  description.split_patterns.push_back(pattern.text("Regex"));
}

void read_pre_tokenizer(const json& value, const std::string& place,
                        TokenizerDescription& description) {
  const Section pre_tokenizer(value, place);
  if (pre_tokenizer.choice("type", {"ByteLevel", "Sequence"}) == "ByteLevel") {
    return read_byte_level(pre_tokenizer, description);
  }
  pre_tokenizer.allow_only({"type", "pretokenizers"});
  const json& steps = pre_tokenizer.array("pretokenizers");
  require(!steps.empty(), "{}: the sequence is empty; it must end with ByteLevel", place);
  require(steps.size() <= kMostSteps, "{}: {} steps are too many; at most {}", place, steps.size(),
          kMostSteps);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const Section step(steps[i], fmt::format("{}.pretokenizers[{}]", place, i));
    const bool last = i + 1 == steps.size();
    step.choice("type", {last ? "ByteLevel" : "Split"});
    last ? read_byte_level(step, description) : read_split(step, description);
  }
}

// The first piece of a template, where it is a token.
std::string leading_token(const json& post_template) {
  static const json::json_pointer kName("/single/0/SpecialToken/id");
  if (!post_template.contains(kName) || !post_template.at(kName).is_string()) return "";
  return post_template.at(kName).get<std::string>();
}

void read_post_processor(const json& value, const std::string& place,
                         TokenizerDescription& description) {
  if (value.is_null()) return;
  const Section processor(value, place);
  const std::string type =
      processor.choice("type", {"ByteLevel", "TemplateProcessing", "Sequence"});
  if (type == "TemplateProcessing") description.leading_token = leading_token(value);
  if (type != "Sequence") return;
  const json& steps = processor.array("processors");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    read_post_processor(steps[i], fmt::format("{}.processors[{}]", place, i), description);
  }
}

void read_vocabulary(const Section& model, TokenizerDescription& description) {
  const Section vocabulary(model.at("vocab"), model.place_of("vocab"));
  std::unordered_set<std::int32_t> ids;
  for (const auto& [token, value] : model.at("vocab").items()) {
    const std::string place = fmt::format("{}['{}']", vocabulary.place(), token);
    const std::int32_t id = read_id(value, place);
    require(ids.insert(id).second, "{}: another token has the id {}", place, id);
    description.vocabulary.emplace(token, id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string character = byte_level_character(static_cast<unsigned char>(byte));
    const auto found = description.vocabulary.find(character);
    require(found != description.vocabulary.end(),
            "{}: no token '{}', which byte 0x{:02X} needs; text would be lost", vocabulary.place(),
            character, byte);
    description.byte_tokens[static_cast<std::size_t>(byte)] = found->second;
  }
}

// A merge is ["left", "right"] or, in older files, "left right".
std::pair<std::string, std::string> read_merge(const json& value, const std::string& place) {
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
    return {value[0].get<std::string>(), value[1].get<std::string>()};
  }
  if (value.is_string()) {
    const auto& line = value.get_ref<const std::string&>();
    const std::size_t space = line.find(' ');
    if (space != std::string::npos && line.find(' ', space + 1) == std::string::npos) {
      return {line.substr(0, space), line.substr(space + 1)};
    }
  }
  fail("{}: a merge is two strings, or one with a space between its two parts", place);
}

void read_merges(const Section& model, TokenizerDescription& description) {
  const json& merges = model.array("merges");
  for (std::size_t i = 0; i < merges.size(); ++i) {
    // The first line of a merges.txt.
    if (merges[i].is_string() && merges[i].get_ref<const std::string&>().starts_with("#version")) {
      continue;
    }
    const std::string place = fmt::format("{}[{}]", model.place_of("merges"), i);
    const auto [left, right] = read_merge(merges[i], place);
    const auto id_of = [&](const std::string& token) {
      const auto found = description.vocabulary.find(token);
      require(found != description.vocabulary.end(), "{}: '{}' is not in the vocabulary", place,
              token);
      return found->second;
    };
    description.merges.push_back({id_of(left), id_of(right), id_of(left + right)});
  }
}

void read_model(const json& value, const std::string& place, TokenizerDescription& description) {
  const Section model(value, place);
  // Files from before other models had no type.
  if (!model.at("type").is_null()) model.choice("type", {"BPE"});
  // unk_token and fuse_unk have no effect where every byte is a token.
  model.allow_only({"type", "dropout", "unk_token", "continuing_subword_prefix",
                    "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab",
                    "merges"});
  require(model.at("dropout").is_null() || model.at("dropout") == 0.0,
          "{}: dropout is not supported; set it to null", model.place_of("dropout"));
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    require(model.at(affix).is_null() || model.at(affix) == "", "{}: not supported but as null",
            model.place_of(affix));
  }
  require(!model.flag("byte_fallback", false), "{}: not supported",
          model.place_of("byte_fallback"));
  description.ignore_merges = model.flag("ignore_merges", false);
  read_vocabulary(model, description);
  read_merges(model, description);
}

void read_added_tokens(const json& tokens, const std::string& place,
                       TokenizerDescription& description) {
  if (tokens.is_null()) return;
  require(tokens.is_array(), "{}: an array is expected, not {}", place, tokens.type_name());
  // tokenizers gives a token that is not in the vocabulary the next number, whatever its id says.
  auto next_id = static_cast<std::int32_t>(description.vocabulary.size());
  std::unordered_set<std::string> contents;
  std::unordered_set<std::int32_t> ids;
  for (const auto& [token, id] : description.vocabulary) ids.insert(id);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Section token(tokens[i], fmt::format("{}[{}]", place, i));
    token.allow_only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    AddedToken added{token.text("content"),   read_id(token.at("id"), token.place_of("id")),
                     token.flag("special"),   token.flag("single_word"),
                     token.flag("lstrip"),    token.flag("rstrip"),
                     token.flag("normalized")};
    require(!added.content.empty(), "{}: the content is empty", token.place());
    require(contents.insert(added.content).second, "{}: '{}' is there twice", token.place(),
            added.content);
    const auto known = description.vocabulary.find(added.content);
    const bool in_vocabulary = known != description.vocabulary.end();
    const std::int32_t id = in_vocabulary ? known->second : next_id++;
    require(added.id == id, "{}: '{}' has the id {}, but {} is its {}", token.place(),
            added.content, added.id, id,
            in_vocabulary ? "id in the vocabulary" : "number by its place");
    require(in_vocabulary || ids.insert(id).second, "{}: another token has the id {}",
            token.place(), id);
    description.added_tokens.push_back(std::move(added));
  }
}

}  // namespace

TokenizerDescription read_tokenizer_json(std::string_view text, const std::string& file) {
  const json document = parse_json(text, file, {.bytes = kLargestFile});
  const Section root(document, file);
  const auto place = [&](const char* key) { return file + ": " + key; };
  root.allow_only({"version", "truncation", "padding", "added_tokens", "normalizer",
                   "pre_tokenizer", "post_processor", "decoder", "model"});
  require(root.at("version") == "1.0", "{}: only '1.0' is known", place("version"));
  for (const char* key : {"truncation", "padding"}) {
    require(root.at(key).is_null(), "{}: not supported; set it to null", place(key));
  }
  TokenizerDescription description;
  read_model(root.at("model"), place("model"), description);
  read_normalizer(root.at("normalizer"), place("normalizer"), description);
  read_pre_tokenizer(root.at("pre_tokenizer"), place("pre_tokenizer"), description);
  read_post_processor(root.at("post_processor"), place("post_processor"), description);
  Section(root.at("decoder"), place("decoder")).choice("type", {"ByteLevel"});
  read_added_tokens(root.at("added_tokens"), place("added_tokens"), description);
  return description;
}

}  // namespace polyhead
