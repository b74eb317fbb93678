#include "framework/config/yaml_parser.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <deque>
#include <fstream>
#include <set>
#include <sstream>

#include "framework/config/yaml_text_checks.h"
#include "framework/error.h"

namespace polyhead {

namespace {

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// Whether the quotation at the start of `text` ends in it.
bool ends_quotation(std::string_view text) {
  const char quote = text.front();
  for (std::size_t i = 1; i < text.size(); ++i) {
    const bool doubled = quote == '\'' && text.substr(i, 2) == "''";
    if (doubled || (quote == '"' && text[i] == '\\')) {
      ++i;
    } else if (text[i] == quote) {
      return true;
    }
  }
  return false;
}

// Thrown out of the parser's callbacks once the problem is recorded.
struct Refused {};

// Builds the tree from the parser's events, which show what its own tree hides.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, std::string source, Problems& problems)
      : lines_(split_lines(text)), source_(std::move(source)), problems_(problems) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check_marked(mark, anchor, "");
    if (expects_key()) refuse(mark, "a key is missing before the colon");
    attach(mark, YamlNode::Kind::kNull).text = spelled_null(mark);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "aliases (*name) are not read; write the value out");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_marked(mark, anchor, tag);
    const std::string_view first = rest_of_line(mark).substr(0, 1);
    if (first == "|" || first == ">") {
      refuse(mark, "block text (| and >) is not read; write it on one line");
    }
    // The parser takes one that only the end of the file ends for complete.
    if ((first == "\"" || first == "'") && !ends_quotation(rest_of_line(mark))) {
      refuse(mark, "the quote does not end on its line; close it");
    }
    if (expects_key()) {
      if (value == "<<") refuse(mark, "merge keys (<<) are not read; write the keys out");
      if (++open_.back().keys > kMostKeys) {
        refuse(mark, fmt::format("more than {} keys", kMostKeys));
      }
      open_.back().key = value;
      open_.back().key_place = place(mark);
      return;
    }
    YamlNode& node = attach(mark, YamlNode::Kind::kScalar);
    node.text = value;
    node.quoted = tag == "!";
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::kMapping);
  }
  void OnMapEnd() override { open_.pop_back(); }

  // The parser stops silently at text that its grammar does not expect, such as a mapping after a
  // list: every line must hold a key, a value or a closing bracket.
  void check_all_lines_were_read() {
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      const std::size_t start = lines_[i].find_first_not_of(" \r");
      if (start == std::string_view::npos || read_lines_.contains(static_cast<int>(i) + 1))
        continue;
      const std::string_view content = lines_[i].substr(start);
      const bool marker = content.substr(0, 3) == "---" && i == first_content_line();
      if (std::string_view("#]},").find(content[0]) != std::string_view::npos || marker) continue;
      problems_.add({source_, static_cast<int>(i) + 1, static_cast<int>(start) + 1}, "",
                    "this line belongs to no key; check its indentation, or quote the text");
      return;
    }
  }

  YamlNode take_root() { return std::move(root_); }

 private:
  struct Open {
    YamlNode* node;
    std::optional<std::string> key = std::nullopt;  // mappings: read, its value not yet
    Place key_place = {};
    int keys = 0;
  };

  Place place(const YAML::Mark& mark) const { return {source_, mark.line + 1, mark.column + 1}; }

  std::string_view rest_of_line(const YAML::Mark& mark) const {
    if (mark.line < 0 || static_cast<std::size_t>(mark.line) >= lines_.size()) return {};
    const std::string_view line = lines_[static_cast<std::size_t>(mark.line)];
    return line.substr(std::min(static_cast<std::size_t>(mark.column), line.size()));
  }

  std::size_t first_content_line() const {
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      const std::size_t start = lines_[i].find_first_not_of(" \r");
      if (start != std::string_view::npos && lines_[i][start] != '#') return i;
    }
    return 0;
  }

  // The parser reports `key: null` and `key:` alike.
  std::string spelled_null(const YAML::Mark& mark) const {
    const std::string_view rest = rest_of_line(mark);
    for (const std::string_view word : {"null", "Null", "NULL", "~"}) {
      const bool ends =
          rest.size() == word.size() ||
          (rest.size() > word.size() &&
           std::string_view(" \r,]}").find(rest[word.size()]) != std::string_view::npos);
      if (rest.substr(0, word.size()) == word && ends) return std::string(word);
    }
    return "";
  }

  [[noreturn]] void refuse(const YAML::Mark& mark, std::string_view message) {
    problems_.add(place(mark), "", message);
    throw Refused();
  }

  bool expects_key() const {
    return !open_.empty() && open_.back().node->kind == YamlNode::Kind::kMapping &&
           !open_.back().key;
  }

  void check_marked(const YAML::Mark& mark, YAML::anchor_t anchor, const std::string& tag) {
    if (anchor != 0) refuse(mark, "anchors (&name) are not read; write the value out");
    if (!tag.empty() && tag != "?" && tag != "!") {
      refuse(mark, "tags (!name) are not read; delete it");
    }
    read_lines_.insert(mark.line + 1);
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            YamlNode::Kind kind) {
    check_marked(mark, anchor, tag);
    if (expects_key()) refuse(mark, "a key must be a plain word");
    if (open_.size() >= kDeepestConfig) {
      refuse(mark, fmt::format("nested too deeply; at most {} levels", kDeepestConfig));
    }
    open_.push_back({&attach(mark, kind)});
  }

  // The new node in its parent, which does not grow again before the node is complete.
  YamlNode& attach(const YAML::Mark& mark, YamlNode::Kind kind) {
    YamlNode node;
    node.kind = kind;
    node.place = place(mark);
    if (open_.empty()) return root_ = std::move(node);
    Open& parent = open_.back();
    if (parent.node->kind == YamlNode::Kind::kSequence) {
      return parent.node->items.emplace_back(std::move(node));
    }
    const std::string key = *std::exchange(parent.key, std::nullopt);
    if (const YamlEntry* first = parent.node->find(key)) {
      problems_.add(parent.key_place, key,
                    fmt::format("given twice, first in line {}; delete one", first->place.line));
      return duplicates_.emplace_back(std::move(node));
    }
    return parent.node->entries.emplace_back(YamlEntry{key, parent.key_place, std::move(node)})
        .value;
  }

  std::vector<std::string_view> lines_;
  std::string source_;
  Problems& problems_;
  YamlNode root_;
  std::vector<Open> open_;
  std::deque<YamlNode> duplicates_;
  std::set<int> read_lines_;
};

}  // namespace

std::string read_config_text(const std::filesystem::path& path) {
  const auto require_file = [&](bool holds, const std::string& problem) {
    if (!holds) throw ConfigurationError(fmt::format("{}: {}", path.string(), problem));
  };
  std::error_code error;
  const std::filesystem::file_type type = std::filesystem::status(path, error).type();
  require_file(type != std::filesystem::file_type::not_found, "no such file");
  require_file(type != std::filesystem::file_type::none, error.message());
  require_file(type == std::filesystem::file_type::regular, "not a regular file");
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  require_file(!error && size <= kLargestConfig,
               fmt::format("larger than {} bytes; a configuration is not", kLargestConfig));
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  require_file(file.good() || size == 0, "cannot be read; check its permissions");
  return text;
}

std::optional<YamlNode> parse_yaml(std::string_view text, const std::string& source,
                                   Problems& problems) {
  if (!check_yaml_text(text, source, problems)) return std::nullopt;
  TreeBuilder builder(text, source, problems);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    builder.check_all_lines_were_read();
  } catch (const YAML::Exception& error) {
    problems.add({source, error.mark.line + 1, error.mark.column + 1}, "",
                 "not YAML: " + error.msg);
    return std::nullopt;
  } catch (const Refused&) {
    return std::nullopt;
  }
  return builder.take_root();
}

}  // namespace polyhead
