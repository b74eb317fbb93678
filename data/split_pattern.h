// The regular expressions of tokenizer.json, which are in the syntax of Oniguruma, for PCRE2.
#pragma once

#include <string>

namespace polyhead {

// What tokenizers' ByteLevel splits by, unless use_regex is false: GPT-2's pattern.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// The same pattern for UnicodePattern. Known is the part of the syntax that means the same to both
// libraries and from which the patterns of GPT-2, Llama 3, Qwen and their like are made:
// characters, classes, general categories such as \p{Lu}, \s and \S, quantifiers, groups,
// lookahead. Throws Error, naming `place`, for anything else.
std::string to_pcre2_syntax(const std::string& pattern, const std::string& place);

}  // namespace polyhead
