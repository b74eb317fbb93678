// The tokenizer that a checkpoint carries in its folder, and a prompt in its tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "scripts/model_source.h"

namespace polyhead {

// That of the checkpoint's training, by its fingerprint; where that is not known the folder's
// tokenizer.model, else its tokenizer.json, else another .model file. (A folder with the first two
// is of a sentencepiece family, whose tokenizer.json is no byte-level one.) Throws Error where
// there is none, or only others. Not collective.
Tokenizer open_checkpoint_tokenizer(const ModelSource& source);

// The one that `named` names, as Tokenizer takes it; absent: the folder's. Throws Error, naming
// --tokenizer, for one other than that of the training.
Tokenizer open_tokenizer(const ModelSource& source, const std::optional<std::string>& named);

// A prompt is encoded as the model has seen documents begin. Training here (a folder with a
// trainer.json) puts nothing in front of them: what comes before is the end of another. Models from
// elsewhere have seen the token that their tokenizer's family puts there, Tokenizer::bos_id(). A
// prompt without any tokens becomes the end of a document. Throws Error for a prompt that is not
// UTF-8, and for tokens that the model lacks.
std::vector<std::int32_t> encode_prompt(const std::string& prompt, const Tokenizer& tokenizer,
                                        const ModelSource& source);

}  // namespace polyhead
