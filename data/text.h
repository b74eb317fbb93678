// Questions to UTF-8 text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace polyhead {

// Byte offset of the first sequence that is not UTF-8 (surrogates and overlong forms included).
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

// bytes.decode("utf-8", errors="replace") of Python: U+FFFD in the place of each maximal subpart of
// an ill-formed sequence, as The Unicode Standard recommends (section 3.9).
std::string replace_invalid_utf8(std::string_view text);

// How many bytes at the end begin a code point that more bytes could complete: 0 to 3.
std::size_t unfinished_utf8(std::string_view text);

// Takes the first line off `text`, with its line feed where it has one; text is not empty.
std::string_view take_line(std::string_view& text);

// len(re.split(r"\s+", text)) of Python, the word count of lm-eval's word perplexity: one more than
// the runs of Unicode white space, so that white space at an end counts an empty word there.
std::int64_t count_words(std::string_view text);

// text.strip() of Python: without the Unicode white space at its ends.
std::string_view strip(std::string_view text);

// len(text.strip().split(" ")) of Python, by which Megatron-LM counts the words of a text.
std::int64_t count_space_separated(std::string_view text);

}  // namespace polyhead
