// Text that appears token by token, never half a character.
//
// A token may end within a character of UTF-8, whose other bytes the next tokens bring: these bytes
// are held back until then. All pieces together are what the tokens' bytes are as one text, with
// U+FFFD for what is not UTF-8.
#pragma once

#include <cstdint>
#include <string>

#include "data/tokenizer.h"

namespace polyhead {

class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}  // must outlive it

  // What the token completes, in UTF-8; may be empty. Throws Error for a token outside the
  // vocabulary.
  std::string add(std::int32_t token);
  // What was held back: U+FFFD, or nothing.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string held_;  // at most 3 bytes
};

}  // namespace polyhead
