#include "data/dataset_description.h"

#include <nlohmann/json.hpp>

#include "framework/error.h"
#include "framework/files/json.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

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
  visit("bin_xxh3", description.bin_xxh3);
  visit("idx_xxh3", description.idx_xxh3);
}

}  // namespace

std::optional<DatasetDescription> read_dataset_description(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  const MappedFile file(path);
  const nlohmann::json json = parse_json(file.text(), path.string());
  require(json.is_object(), "{}: not a dataset description; tokenize the text again",
          path.string());
  DatasetDescription description;
  visit_fields(description, [&]<class Value>(const char* key, Value& value) {
    const auto found = json.find(key);
    require(found != json.end(), "{}: the key '{}' is missing; tokenize the text again",
            path.string(), key);
    try {
      value = found->template get<Value>();
    } catch (const nlohmann::json::exception& error) {
      fail("{}: {}: {}; tokenize the text again", path.string(), key, error.what());
    }
  });
  require(description.eod_id >= 0 && description.eod_id < description.vocab_size,
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
