#include "data/document_reader.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/text.h"
#include "framework/error.h"
#include "framework/files/json.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

using Visitor = std::function<void(std::string_view)>;

constexpr std::size_t kLongestLine = std::size_t{1} << 30;  // of JSON lines

std::vector<std::filesystem::path> files_below(const std::filesystem::path& input) {
  if (!std::filesystem::is_directory(input)) return {input};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(input)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string_view without_line_end(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

void visit_document(std::string_view document, const Visitor& visit) {
  if (!document.empty()) visit(document);
}

void read_json_lines(const MappedFile& file, const std::string& key, const Visitor& visit) {
  std::string_view rest = file.text();
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = without_line_end(take_line(rest));
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string place = fmt::format("{}:{}", file.path().string(), number);
    const nlohmann::json json = parse_json(line, place, {.bytes = kLongestLine});
    const auto text = json.is_object() ? json.find(key) : json.end();
    require(json.is_object() && text != json.end() && text->is_string(),
            "{}: not an object with a string under the key '{}'; choose the key with --json-key",
            place, key);
    visit_document(text->get_ref<const std::string&>(), visit);
  }
}

void read_text(const MappedFile& file, const std::optional<std::string>& separator,
               const Visitor& visit) {
  const std::string_view text = file.text();
  if (const auto invalid = find_invalid_utf8(text)) {
    const auto line = 1 + std::count(text.begin(), text.begin() + *invalid, '\n');
    fail("{}:{}: byte {} of the file is not UTF-8; convert it first (iconv -t UTF-8)",
         file.path().string(), line, *invalid);
  }
  if (!separator) return visit_document(text, visit);
  std::string_view rest = text;
  std::size_t begin = 0;
  while (!rest.empty()) {
    const std::string_view line = take_line(rest);
    if (without_line_end(line) != *separator) continue;
    const std::size_t line_begin = text.size() - rest.size() - line.size();
    visit_document(text.substr(begin, line_begin - begin), visit);
    begin = text.size() - rest.size();
  }
  visit_document(text.substr(begin), visit);
}

}  // namespace

void read_documents(const std::vector<std::filesystem::path>& inputs, const DocumentFormat& format,
                    const Visitor& visit) {
  for (const std::filesystem::path& input : inputs) {
    for (const std::filesystem::path& path : files_below(input)) {
      const MappedFile file(path);
      const bool json = path.extension() == ".jsonl" || path.extension() == ".json";
      if (json || format.json_key) {
        read_json_lines(file, format.json_key.value_or("text"), visit);
      } else {
        read_text(file, format.separator, visit);
      }
    }
  }
}

}  // namespace polyhead
