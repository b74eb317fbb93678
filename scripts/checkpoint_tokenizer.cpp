#include "scripts/checkpoint_tokenizer.h"

#include <algorithm>

#include "data/text.h"
#include "framework/error.h"
#include "framework/files/content_hash.h"
#include "framework/files/folder.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

// The first one is to be preferred.
std::vector<fs::path> tokenizer_files(const fs::path& folder) {
  std::vector<fs::path> files;
  const auto add_where = [&](auto&& matches) {
    for (const std::string& name : list_folder(folder)) {
      if (matches(fs::path(name))) files.push_back(folder / name);
    }
  };
  add_where([](const fs::path& name) { return name == "tokenizer.model"; });
  add_where([](const fs::path& name) { return name == "tokenizer.json"; });
  add_where([](const fs::path& name) {
    return name.extension() == ".model" && name != "tokenizer.model";
  });
  return files;
}

}  // namespace

Tokenizer open_checkpoint_tokenizer(const ModelSource& source) {
  const std::string& fingerprint = source.tokenizer_fingerprint;
  if (fingerprint == ByteTokenizer().fingerprint()) return Tokenizer("bytes");
  const std::vector<fs::path> files = tokenizer_files(source.folder);
  require(!files.empty(),
          "{}: the folder has no tokenizer (tokenizer.json, tokenizer.model or another .model "
          "file); put the one that the model was trained with there",
          source.folder.string());
  if (fingerprint.empty()) return Tokenizer(files.front().string());
  const auto own = std::find_if(files.begin(), files.end(), [&](const fs::path& file) {
    return content_hash(MappedFile(file).bytes()) == fingerprint;
  });
  require(own != files.end(),
          "{} is not the tokenizer that the model was trained with (fingerprint {}); put that one "
          "there",
          files.front().string(), fingerprint);
  return Tokenizer(own->string());
}

Tokenizer open_tokenizer(const ModelSource& source, const std::optional<std::string>& named) {
  if (!named) return open_checkpoint_tokenizer(source);
  Tokenizer tokenizer(*named);
  require(
      source.tokenizer_fingerprint.empty() ||
          source.tokenizer_fingerprint == tokenizer.fingerprint(),
      "--tokenizer {}: {} was trained with another tokenizer (fingerprint {}, this one has {}); "
      "name that one, or leave it out for the one in the folder",
      *named, source.folder.string(), source.tokenizer_fingerprint, tokenizer.fingerprint());
  return tokenizer;
}

std::vector<std::int32_t> encode_prompt(const std::string& prompt, const Tokenizer& tokenizer,
                                        const ModelSource& source) {
  const std::optional<std::size_t> invalid = find_invalid_utf8(prompt);
  require(!invalid, "the prompt is not UTF-8 at byte {}; convert it", invalid.value_or(0));
  std::vector<std::int32_t> tokens = tokenizer.encode(prompt);
  const bool trained_here = file_exists(source.folder / "trainer.json");
  if (!trained_here && tokenizer.bos_id()) tokens.insert(tokens.begin(), *tokenizer.bos_id());
  if (tokens.empty()) tokens.push_back(tokenizer.eod_id());
  const std::int64_t vocab_size = source.model.vocab_size.value();
  for (const std::int32_t token : tokens) {
    require(
        token < vocab_size,
        "the prompt has token {} of the tokenizer, which lies outside the vocabulary of {} that "
        "{} has (model.vocab_size)",
        token, vocab_size, source.folder.string());
  }
  return tokens;
}

}  // namespace polyhead
