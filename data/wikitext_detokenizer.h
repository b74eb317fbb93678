// WikiText's pages as running text: undoes the spaces that its tokenization put around punctuation,
// by the rules and in the order of lm-evaluation-harness and Megatron-LM (their
// wikitext_detokenizer), so that the perplexities of the result compare with theirs.
#pragma once

#include <string>
#include <string_view>

namespace polyhead {

// page: UTF-8. Linear in its length, but for the few copies that each rule makes.
std::string detokenize_wikitext(std::string_view page);

}  // namespace polyhead
