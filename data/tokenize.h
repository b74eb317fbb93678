// From text files to a dataset on disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset_description.h"
#include "data/document_reader.h"
#include "data/tokenizer.h"

namespace polyhead {

enum class Detokenizer { kNone, kWikitext };

struct TokenizeOptions {
  std::vector<std::filesystem::path> inputs;
  DocumentFormat format;
  std::string output;                            // prefix of the .bin, .idx and .json to write
  bool append_eod = true;                        // end every document with the tokenizer's eod
  Detokenizer detokenizer = Detokenizer::kNone;  // what each document passes through first
};

// Writes the dataset, one document at a time, and returns its description. The counts of bytes and
// words are those of the documents as they were read, before the detokenizer.
DatasetDescription tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer);

// Trains a sentencepiece model on the same text and writes it to `model_file`. Holds all their
// text in memory.
void train_tokenizer(const TokenizeOptions& options, std::int64_t vocab_size,
                     const std::filesystem::path& model_file);

}  // namespace polyhead
