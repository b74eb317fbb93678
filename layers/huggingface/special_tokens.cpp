#include "layers/huggingface/special_tokens.h"

#include <algorithm>

#include "framework/files/folder.h"
#include "framework/files/mapped_file.h"
#include "layers/huggingface/config_fields.h"

namespace polyhead {
namespace {

enum class Count { kOne, kMany };

std::vector<std::int64_t> tokens_under(const std::string& key, Count count,
                                       const nlohmann::json& object, const std::string& source,
                                       std::int64_t vocab_size) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  const auto is_token = [&](const nlohmann::json& value) {
    return value.is_number_unsigned() &&
           value.get<std::uint64_t>() < static_cast<std::uint64_t>(vocab_size);
  };
  const bool is_list = count == Count::kMany && found->is_array();
  if (is_list ? !std::ranges::all_of(*found, is_token) : !is_token(*found)) {
    ConfigFields(object, source)
        .refuse(key,
                fmt::format("must be a token of the vocabulary, from 0 to {}{}; correct it, "
                            "or delete it where there is none",
                            vocab_size - 1, count == Count::kMany ? ", or a list of them" : ""));
  }
  if (is_list) return found->get<std::vector<std::int64_t>>();
  return {found->get<std::int64_t>()};
}

std::vector<std::int64_t> end_tokens(const std::filesystem::path& file, std::int64_t vocab_size) {
  const nlohmann::json object = parse_config_object(MappedFile(file).text(), file.string());
  return tokens_under("eos_token_id", Count::kMany, object, file.string(), vocab_size);
}

}  // namespace

SpecialTokens parse_special_tokens(std::string_view text, const std::string& source,
                                   std::int64_t vocab_size) {
  const nlohmann::json object = parse_config_object(text, source);
  const auto one = [&](const char* key) -> std::optional<std::int64_t> {
    const auto tokens = tokens_under(key, Count::kOne, object, source, vocab_size);
    return tokens.empty() ? std::nullopt : std::optional(tokens.front());
  };
  // -1 for none is what the first conversions of LLaMA have.
  const auto padding = object.find("pad_token_id");
  const bool none = padding != object.end() && *padding == -1;
  return {.bos_token_id = one("bos_token_id"),
          .eos_token_id = tokens_under("eos_token_id", Count::kMany, object, source, vocab_size),
          .pad_token_id = none ? std::nullopt : one("pad_token_id")};
}

SpecialTokens read_special_tokens(const std::filesystem::path& folder, std::int64_t vocab_size) {
  const std::filesystem::path file = folder / "config.json";
  return parse_special_tokens(MappedFile(file).text(), file.string(), vocab_size);
}

std::vector<std::int64_t> read_end_tokens(const std::filesystem::path& folder,
                                          std::int64_t vocab_size) {
  std::vector<std::int64_t> tokens;
  const std::filesystem::path generation = folder / "generation_config.json";
  if (file_exists(generation)) tokens = end_tokens(generation, vocab_size);
  return tokens.empty() ? end_tokens(folder / "config.json", vocab_size) : tokens;
}

}  // namespace polyhead
