// PREFIX.json, written by `polyhead tokenize` beside PREFIX.bin and PREFIX.idx: what the tokens
// mean and how long the text was that they came from. Datasets made by Megatron have none; they
// load, but say nothing of their vocabulary, and bits per byte and word perplexity are unavailable.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace polyhead {

struct DatasetDescription {
  std::string tokenizer;              // Tokenizer::kind()
  std::string tokenizer_file;         // relative to the dataset's folder; empty for bytes
  std::string tokenizer_fingerprint;  // Tokenizer::fingerprint()
  std::int64_t vocab_size = 0;
  std::int32_t eod_id = 0;
  bool append_eod = true;  // each document ends with eod_id
  std::int64_t documents = 0;
  std::int64_t tokens = 0;  // eod included
  // Of the original text, before any detokenizer: UTF-8, and words as count_words() and
  // count_space_separated() count them in each document.
  std::int64_t bytes = 0;
  std::int64_t words = 0;
  std::int64_t space_separated_words = 0;  // 0: not recorded
  std::string detokenizer = {};            // "wikitext"; empty: the text as it stands
  std::string text_xxh3 = {};              // hash of the original documents; empty: not recorded
  std::string bin_xxh3 = {};               // hash of the whole .bin, and of the whole .idx
  std::string idx_xxh3 = {};
  std::string sizes_xxh3 = {};  // of PREFIX.sizes (data/text_sizes.h); empty: there is none
};

// Empty where there is no file; throws Error, naming file and key, for one that is not ours.
std::optional<DatasetDescription> read_dataset_description(const std::filesystem::path& path);

// One JSON object, indented.
std::string to_json(const DatasetDescription& description);

}  // namespace polyhead
