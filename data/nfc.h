// Unicode's Normalization Form C (Unicode Standard Annex #15), by utf8proc's tables.
// Hugging Face's tokenizers have older ones, in which combining marks that Unicode assigned of late
// have no order and do not compose.
#pragma once

#include <string>
#include <string_view>

namespace polyhead {

// Of valid UTF-8, in O(n log n).
std::string to_nfc(std::string_view text);

}  // namespace polyhead
