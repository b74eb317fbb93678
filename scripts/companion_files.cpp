#include "scripts/companion_files.h"

#include <array>
#include <string_view>

#include "framework/files/folder.h"
#include "layers/conversion/convert_checkpoint.h"

namespace polyhead {
namespace {

// What a tokenizer may consist of, by the names that transformers and sentencepiece give.
constexpr auto kKnownFiles = std::to_array<std::string_view>(
    {"added_tokens.json", "chat_template.jinja", "chat_template.json", kGenerationConfig,
     "merges.txt", "sentencepiece.bpe.model", "special_tokens_map.json", "spiece.model",
     "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt"});

}  // namespace

std::vector<std::string> companion_files(const ModelSource& source) {
  std::vector<std::string> files;
  if (!source.trainer) {
    for (const std::string_view name : kKnownFiles) {
      if (file_exists(source.folder / name)) files.emplace_back(name);
    }
    return files;
  }
  // A checkpoint lists its files, and those it need not have are these, whatever their names.
  for (const FileRecord& file : source.trainer->files) {
    const bool tensors = file.name.find(".safetensors") != std::string::npos;
    const bool own = file.name == "config.json" || file.name == kConversionReport;
    if (!tensors && !own) files.push_back(file.name);
  }
  return files;
}

}  // namespace polyhead
