#include "data/tokenize.h"

#include "data/indexed_dataset_writer.h"
#include "data/text.h"
#include "framework/error.h"

namespace polyhead {

DatasetDescription tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer) {
  IndexedDatasetWriter writer(options.output, tokenizer.vocab_size());
  DatasetDescription description;
  description.tokenizer = tokenizer.kind();
  description.tokenizer_fingerprint = tokenizer.fingerprint();
  description.eod_id = tokenizer.eod_id();
  description.append_eod = options.append_eod;
  if (!tokenizer.file().empty()) {
    const auto folder = std::filesystem::absolute(options.output).parent_path();
    description.tokenizer_file = std::filesystem::proximate(tokenizer.file(), folder).string();
  }
  read_documents(options.inputs, options.format, [&](std::string_view text) {
    std::vector<std::int32_t> tokens = tokenizer.encode(text);
    if (options.append_eod) tokens.push_back(tokenizer.eod_id());
    writer.add_document(tokens);
    description.bytes += static_cast<std::int64_t>(text.size());
    description.words += count_words(text);
  });
  return writer.finish(description);
}

void train_tokenizer(const TokenizeOptions& options, std::int64_t vocab_size,
                     const std::filesystem::path& model_file) {
  std::vector<std::string> lines;
  read_documents(options.inputs, options.format, [&](std::string_view text) {
    while (!text.empty()) lines.emplace_back(take_line(text));
  });
  require(!lines.empty(), "no text to train a tokenizer on");
  train_sentencepiece(std::move(lines), vocab_size, model_file);
}

}  // namespace polyhead
