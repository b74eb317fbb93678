#include "scripts/checkpoint_tokenizer.h"

#include <vector>

#include "framework/error.h"
#include "framework/files/folder.h"

namespace polyhead {
namespace {

std::string tokenizer_of(const ModelSource& source) {
  if (source.tokenizer_fingerprint == ByteTokenizer().fingerprint()) return "bytes";
  const std::filesystem::path json = source.folder / "tokenizer.json";
  if (file_exists(json)) return json.string();
  std::vector<std::string> models;
  for (const std::string& name : list_folder(source.folder)) {
    if (name.ends_with(".model")) models.push_back((source.folder / name).string());
  }
  require(models.size() == 1,
          "{}: there is no tokenizer.json and {} *.model; name its tokenizer with --tokenizer",
          source.folder.string(), models.empty() ? "no" : "more than one");
  return models.front();
}

}  // namespace

Tokenizer open_tokenizer(const ModelSource& source, const std::optional<std::string>& named) {
  const std::string name = named ? *named : tokenizer_of(source);
  Tokenizer tokenizer(name);
  require(source.tokenizer_fingerprint.empty() ||
              source.tokenizer_fingerprint == tokenizer.fingerprint(),
          "{}: was trained with another tokenizer (fingerprint {}) than {} (fingerprint {}); name "
          "the right one with --tokenizer",
          source.folder.string(), source.tokenizer_fingerprint, name, tokenizer.fingerprint());
  require(!source.model.vocab_size || tokenizer.vocab_size() <= *source.model.vocab_size,
          "{}: has {} tokens, fewer than the {} of {}; name the right one with --tokenizer",
          source.folder.string(), source.model.vocab_size.value_or(0), tokenizer.vocab_size(),
          name);
  return tokenizer;
}

}  // namespace polyhead
