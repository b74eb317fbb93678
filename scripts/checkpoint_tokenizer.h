// The tokenizer that a checkpoint was trained with.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "data/tokenizer.h"
#include "scripts/model_source.h"

namespace polyhead {

// `named`: as Tokenizer takes it; absent: that in the checkpoint's folder (tokenizer.json, else the
// only *.model), or bytes where the checkpoint says so. Throws Error, naming --tokenizer, where
// there is none, and for one other than that of the training, where the checkpoint knows it.
Tokenizer open_tokenizer(const ModelSource& source, const std::optional<std::string>& named);

}  // namespace polyhead
