#include "data/r_serialization.h"

#include <utility>

#include "framework/error.h"

namespace polyhead {
namespace {

enum RType {
  kSymbol = 1,
  kPairList = 2,
  kCharacters = 9,
  kLogical = 10,
  kInteger = 13,
  kStringVector = 16,
  kList = 19,
  kNilValue = 254,
  kReference = 255,
};
constexpr std::uint32_t kHasAttributes = 0x200;
constexpr std::uint32_t kHasTag = 0x400;
constexpr int kMaxDepth = 64;

class Parser {
 public:
  Parser(std::string_view bytes, const std::string& source) : bytes_(bytes), source_(source) {}

  RValue parse() {
    require(take(2) == "X\n", "{}: not R data in XDR form", source_);
    const std::uint32_t version = word();
    require(version == 2 || version == 3, "{}: version {} of R's serialisation is not known",
            source_, version);
    take(8);                         // the versions of R that wrote it and that can read it
    if (version == 3) take(word());  // the name of the encoding
    return item(0);
  }

 private:
  std::string_view take(std::size_t count) {
    require(count <= bytes_.size(), "{}: the R data breaks off", source_);
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  std::uint32_t word() {
    std::uint32_t value = 0;
    for (const char byte : take(4)) value = value << 8 | static_cast<unsigned char>(byte);
    return value;
  }

  // The number of elements that follow; each takes at least 4 bytes.
  std::size_t length() {
    const std::size_t count = word();
    require(count <= bytes_.size() / 4, "{}: the R data breaks off", source_);
    return count;
  }

  RValue item(int depth) {
    require(depth < kMaxDepth, "{}: the R data nests deeper than {} levels", source_, kMaxDepth);
    const std::uint32_t flags = word();
    const std::uint32_t type = flags & 0xFF;
    RValue value;
    switch (type) {
      case kNilValue:
        return value;
      case kReference:
        value.strings.push_back(symbol(flags >> 8 == 0 ? word() : flags >> 8));
        return value;
      case kSymbol:
        symbols_.push_back(characters());
        value.strings.push_back(symbols_.back());
        return value;
      case kPairList:
        return pair_list(flags, depth);
      case kLogical:
      case kInteger:
        for (std::size_t i = length(); i > 0; --i) {
          value.integers.push_back(static_cast<std::int32_t>(word()));
        }
        break;
      case kStringVector:
        for (std::size_t i = length(); i > 0; --i) value.strings.push_back(characters());
        break;
      case kList:
        for (std::size_t i = length(); i > 0; --i) value.elements.push_back(item(depth + 1));
        break;
      default:
        fail("{}: R type {} is not supported", source_, type);
    }
    if (flags & kHasAttributes) {
      RValue attributes = item(depth + 1);
      for (std::size_t i = 0; i < attributes.names.size(); ++i) {
        if (attributes.names[i] == "names") value.names = std::move(attributes.elements[i].strings);
      }
    }
    return value;
  }

  // Attributes: a chain of (tag, value), ended by nil.
  RValue pair_list(std::uint32_t flags, int depth) {
    RValue list;
    while ((flags & 0xFF) == kPairList) {
      if (flags & kHasAttributes) item(depth + 1);
      const RValue tag = flags & kHasTag ? item(depth + 1) : RValue{};
      list.names.push_back(tag.strings.empty() ? "" : tag.strings.front());
      list.elements.push_back(item(depth + 1));
      flags = word();
    }
    require((flags & 0xFF) == kNilValue, "{}: a pair list does not end in nil", source_);
    return list;
  }

  // A symbol is written once and then referred to by its number, from 1 on.
  const std::string& symbol(std::uint32_t number) const {
    require(0 < number && number <= symbols_.size(), "{}: R symbol {} of {} is referred to",
            source_, number, symbols_.size());
    return symbols_[number - 1];
  }

  std::string characters() {
    require((word() & 0xFF) == kCharacters, "{}: a string is missing in the R data", source_);
    const std::uint32_t size = word();
    return size == 0xFFFFFFFF ? std::string() : std::string(take(size));
  }

  std::string_view bytes_;
  const std::string& source_;
  std::vector<std::string> symbols_;
};

}  // namespace

RValue parse_r_serialization(std::string_view bytes, const std::string& source) {
  return Parser(bytes, source).parse();
}

}  // namespace polyhead
