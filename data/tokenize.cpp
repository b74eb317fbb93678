#include "data/tokenize.h"

#include "data/indexed_dataset_writer.h"
#include "data/text.h"
#include "data/wikitext_detokenizer.h"
#include "framework/error.h"
#include "framework/files/content_hash.h"

namespace polyhead {
namespace {

// The documents' hash: of each its bytes and their number, so that it tells where they end.
void add_document(std::string_view document, ContentHash& hash) {
  const std::uint64_t bytes = document.size();
  hash.add(std::as_bytes(std::span(document)));
  hash.add(std::as_bytes(std::span(&bytes, 1)));
}

// Visits each document as it was read, and its text to be tokenized.
template <class Visit>
void read_texts(const TokenizeOptions& options, Visit&& visit) {
  read_documents(options.inputs, options.format, [&](std::string_view document) {
    if (options.detokenizer == Detokenizer::kNone) return visit(document, document);
    visit(document, detokenize_wikitext(document));
  });
}

}  // namespace

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
  if (options.detokenizer == Detokenizer::kWikitext) description.detokenizer = "wikitext";
  std::vector<TextSize> sizes;
  ContentHash hash;
  read_texts(options, [&](std::string_view document, std::string_view text) {
    std::vector<std::int32_t> tokens = tokenizer.encode(text);
    if (options.append_eod) tokens.push_back(tokenizer.eod_id());
    writer.add_document(tokens);
    sizes.push_back({static_cast<std::int64_t>(document.size()), count_words(document)});
    description.bytes += sizes.back().bytes;
    description.words += sizes.back().words;
    description.space_separated_words += count_space_separated(document);
    add_document(document, hash);
  });
  description.text_xxh3 = hash.hex();
  return writer.finish(description, sizes);
}

void train_tokenizer(const TokenizeOptions& options, std::int64_t vocab_size,
                     const std::filesystem::path& model_file) {
  std::vector<std::string> lines;
  read_texts(options, [&](std::string_view, std::string_view text) {
    while (!text.empty()) lines.emplace_back(take_line(text));
  });
  require(!lines.empty(), "no text to train a tokenizer on");
  train_sentencepiece(std::move(lines), vocab_size, model_file);
}

}  // namespace polyhead
