// A tokenizer.json of Hugging Face's tokenizers, read and validated.
//
// Of that format the byte-level BPE tokenizers are known: those of GPT-2, Llama 3, Qwen and their
// like.
//   normalizer      null, NFC, Sequence of it
//   pre_tokenizer   ByteLevel; Sequence of Splits (Regex, Isolated, not inverted) and ByteLevel
//   model           BPE with a token for each byte; not with dropout, byte_fallback, or a prefix or
//                   suffix of words
//   decoder         ByteLevel
//   post_processor  null, ByteLevel, TemplateProcessing, Sequence of them: not applied, because the
//                   markers that it adds are not part of a text; the one in front is told
//   truncation, padding   null
// Everything else is refused by its name: it would make other tokens.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/byte_pair_merges.h"

namespace polyhead {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;      // decoding leaves it out
  bool single_word = false;  // no match beside a word character
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // is sought in normalized text
};

struct TokenizerDescription {
  bool nfc = false;
  std::vector<std::string> split_patterns;  // each splits the pieces of the one before
  bool add_prefix_space = false;            // before each of these pieces
  bool split_by_gpt2_pattern = false;       // last

  std::unordered_map<std::string, std::int32_t> vocabulary;  // tokens in the byte-level alphabet
  std::array<std::int32_t, 256> byte_tokens{};
  std::vector<MergeRule> merges;
  bool ignore_merges = false;  // a piece that is a token is not merged from its bytes

  // What the post_processor puts in front of a text; empty: nothing.
  std::string leading_token;

  // In the vocabulary or behind it. Neither contents nor ids repeat.
  std::vector<AddedToken> added_tokens;
};

// Throws Error, naming `file` and the place in it, for text that is no such tokenizer.json, nests
// deeper than 16 levels, or is larger than 256 MiB.
TokenizerDescription read_tokenizer_json(std::string_view text, const std::string& file);

}  // namespace polyhead
