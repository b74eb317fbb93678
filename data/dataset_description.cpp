#include "data/dataset_description.h"

#include <nlohmann/json.hpp>

#include "framework/error.h"
#include "framework/files/folder.h"
#include "framework/files/json.h"
#include "framework/files/json_object.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

constexpr std::size_t kLargestDescription = std::size_t{1} << 20;

// Lists every key once, for reading and writing alike.
template <class Description, class Visitor>
void visit_fields(Description& description, Visitor&& visit) {
  visit("tokenizer", description.tokenizer);
  visit("tokenizer_file", description.tokenizer_file);
  visit("tokenizer_fingerprint", description.tokenizer_fingerprint);
  visit("vocab_size", description.vocab_size);
  visit("eod_id", description.eod_id);
  visit("append_eod", description.append_eod);
  visit("documents", description.documents);
  visit("tokens", description.tokens);
  visit("bytes", description.bytes);
  visit("words", description.words);
  visit("space_separated_words", description.space_separated_words);
  visit("detokenizer", description.detokenizer);
  visit("text_xxh3", description.text_xxh3);
  visit("bin_xxh3", description.bin_xxh3);
  visit("idx_xxh3", description.idx_xxh3);
  visit("sizes_xxh3", description.sizes_xxh3);
}

// Datasets made before these were recorded stay good.
bool may_be_missing(std::string_view key) {
  return key == "space_separated_words" || key == "detokenizer" || key == "text_xxh3" ||
         key == "sizes_xxh3";
}

}  // namespace

std::optional<DatasetDescription> read_dataset_description(const std::filesystem::path& path) {
  if (!file_exists(path)) return std::nullopt;
  const MappedFile file(path);
  const nlohmann::json json =
      parse_json(file.text(), path.string(), {.bytes = kLargestDescription});
  const JsonObject fields(json, path.string(), "; tokenize the text again");
  DatasetDescription description;
  visit_fields(description, [&](const char* key, auto& value) {
    if (fields.has(key) || !may_be_missing(key)) fields.read(key, value);
  });
  require(description.eod_id < description.vocab_size,
          "{}: eod_id {} lies outside the vocabulary of {}; tokenize the text again", path.string(),
          description.eod_id, description.vocab_size);
  return description;
}

std::string to_json(const DatasetDescription& description) {
  nlohmann::ordered_json json;
  visit_fields(description, [&](const char* key, const auto& value) { json[key] = value; });
  return json.dump(2) + "\n";
}

}  // namespace polyhead
