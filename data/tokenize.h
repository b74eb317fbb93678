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

struct TokenizeOptions {
  std::vector<std::filesystem::path> inputs;
  DocumentFormat format;
  std::string output;      // prefix of the .bin, .idx and .json to write
  bool append_eod = true;  // end every document with the tokenizer's eod
};

// Writes the dataset, one document at a time, and returns its description. The counts of bytes and
// words are those of the text before tokenization.
DatasetDescription tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer);

// Trains a sentencepiece model on the same documents and writes it to `model_file`. Holds all their
// text in memory.
void train_tokenizer(const TokenizeOptions& options, std::int64_t vocab_size,
                     const std::filesystem::path& model_file);

}  // namespace polyhead
