// The tokenizer that a checkpoint carries in its folder.
#pragma once

#include "data/tokenizer.h"
#include "scripts/model_source.h"

namespace polyhead {

// That of the checkpoint's training, by its fingerprint; where that is not known the folder's
// tokenizer.model, else its tokenizer.json, else another .model file. (A folder with the first two
// is of a sentencepiece family, whose tokenizer.json is no byte-level one.) Throws Error where
// there is none, or only others. Not collective.
Tokenizer open_checkpoint_tokenizer(const ModelSource& source);

}  // namespace polyhead
