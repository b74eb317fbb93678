#include "data/text_stream.h"

#include <utility>

#include "data/text.h"

namespace polyhead {

std::string TextStream::add(std::int32_t token) {
  held_ += tokenizer_.token_bytes(token);
  const std::size_t complete = held_.size() - unfinished_utf8(held_);
  const std::string text = replace_invalid_utf8(std::string_view(held_).substr(0, complete));
  held_.erase(0, complete);
  return text;
}

std::string TextStream::finish() {
  return replace_invalid_utf8(std::exchange(held_, {}));
}

}  // namespace polyhead
