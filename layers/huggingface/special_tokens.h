// The special tokens that a model folder names, under transformers' keys. They change nothing that
// the model computes: generation reads them, and what is written of the model names them again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace polyhead {

struct SpecialTokens {
  std::optional<std::int64_t> bos_token_id = {};
  std::vector<std::int64_t> eos_token_id = {};  // each of them ends a text
  std::optional<std::int64_t> pad_token_id = {};
};

// Those of the text of a config.json or generation_config.json. A key that is absent, null or an
// empty list names none, and so does a pad_token_id of -1. Throws Error, naming `source`, the key,
// its value and the fix, for what is no token of the vocabulary.
SpecialTokens parse_special_tokens(std::string_view text, const std::string& source,
                                   std::int64_t vocab_size);

// Those of FOLDER/config.json.
SpecialTokens read_special_tokens(const std::filesystem::path& folder, std::int64_t vocab_size);

// The tokens that end a text, as for Hugging Face's generate: eos_token_id of
// FOLDER/generation_config.json or, where that names none, of FOLDER/config.json. Throws as above,
// for this key alone.
std::vector<std::int64_t> read_end_tokens(const std::filesystem::path& folder,
                                          std::int64_t vocab_size);

}  // namespace polyhead
