#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "framework/error.h"
#include "framework/files/content_hash.h"
#include "framework/files/durable_file.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

class Lines final : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(std::vector<std::string> lines) : lines_(std::move(lines)) {}
  bool done() const override { return next_ == lines_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return lines_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> lines_;
  std::size_t next_ = 0;
};

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const std::filesystem::path& file) {
  const MappedFile model(file);
  auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
  const sentencepiece::util::Status status = processor->LoadFromSerializedProto(model.text());
  require(status.ok() && processor->GetPieceSize() > 0,
          "{} is not a sentencepiece model ({}); the tokenizer is 'bytes', a .model file or a "
          "tokenizer.json",
          file.string(), status.ToString());
  require(processor->eos_id() >= 0,
          "{}: the model has no end-of-sentence piece, which ends documents; train one with "
          "--eos_id",
          file.string());
  processor_ = std::move(processor);
  fingerprint_ = content_hash(model.bytes());
}

std::vector<std::int32_t> SentencePieceTokenizer::encode(std::string_view text) const {
  std::vector<int> ids;
  const sentencepiece::util::Status status = processor_->Encode(text, &ids);
  require(status.ok(), "sentencepiece cannot encode the text: {}", status.ToString());
  return ids;
}

std::string SentencePieceTokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  const sentencepiece::util::Status status =
      processor_->Decode(std::vector<int>(tokens.begin(), tokens.end()), &text);
  require(status.ok(), "sentencepiece cannot decode the tokens: {}", status.ToString());
  return text;
}

std::string SentencePieceTokenizer::token_bytes(std::int32_t token) const {
  if (processor_->IsControl(token)) return "";
  const std::string& piece = processor_->IdToPiece(token);
  // "<0xE2>"
  if (processor_->IsByte(token)) {
    return {static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16))};
  }
  if (processor_->IsUnknown(token)) return decode({&token, 1});
  constexpr std::string_view kSpace = "\u2581";
  std::string bytes;
  std::string_view rest = piece;
  for (std::size_t at = 0; (at = rest.find(kSpace)) != std::string_view::npos;) {
    bytes += rest.substr(0, at);
    bytes += ' ';
    rest.remove_prefix(at + kSpace.size());
  }
  bytes += rest;
  return bytes;
}

std::int64_t SentencePieceTokenizer::vocab_size() const {
  return processor_->GetPieceSize();
}

std::int32_t SentencePieceTokenizer::eod_id() const {
  return processor_->eos_id();
}

std::optional<std::int32_t> SentencePieceTokenizer::bos_id() const {
  const int id = processor_->bos_id();
  return id < 0 ? std::nullopt : std::optional<std::int32_t>(id);
}

void train_sentencepiece(std::vector<std::string> lines, std::int64_t vocab_size,
                         const std::filesystem::path& file) {
  Lines iterator(std::move(lines));
  std::string model;
  const sentencepiece::util::Status status = sentencepiece::SentencePieceTrainer::Train(
      {{"model_type", "bpe"},
       {"vocab_size", std::to_string(vocab_size)},
       {"byte_fallback", "true"},
       {"character_coverage", "1.0"},
       {"normalization_rule_name", "identity"},
       {"remove_extra_whitespaces", "false"},
       {"add_dummy_prefix", "false"},
       {"max_sentence_length", "1073741824"},  // the largest; longer lines are left out
       {"num_threads", "1"},
       {"minloglevel", "2"}},
      &iterator, &model);
  require(status.ok(), "cannot train a sentencepiece model of {} pieces: {}", vocab_size,
          status.ToString());
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path());
  replace_durably(file, model);
}

}  // namespace polyhead
