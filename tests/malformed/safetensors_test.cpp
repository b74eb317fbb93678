#include "framework/checkpoint/safetensors_reader.h"
#include "tests/malformed/malformed_file.h"
#include "tests/support/safetensors_file.h"

namespace polyhead {
namespace {

using namespace testing;
using ::testing::ValuesIn;

constexpr std::size_t kDataBytes = 14;
const std::string kHeader = R"({"__metadata__":{"format":"pt"},)"
                            R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                            R"("b":{"dtype":"BF16","shape":[1,3],"data_offsets":[8,14]}})";

std::string valid_file() {
  return safetensors_file(kHeader, kDataBytes);
}

std::string with_claimed_size(std::uint64_t size) {
  std::string file = valid_file();
  std::memcpy(file.data(), &size, sizeof(size));
  return file;
}

// The valid header with one piece of it replaced, and as much data as before.
std::string with(std::string_view from, std::string_view to) {
  return safetensors_file(replaced(kHeader, from, to), kDataBytes);
}

// A file of one tensor, w.
std::string tensor(const std::string& entry, std::size_t data_bytes) {
  return safetensors_file(R"({"w":)" + entry + "}", data_bytes);
}
std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets,
                   std::size_t data_bytes = 8) {
  return tensor(
      fmt::format(R"({{"dtype":{},"shape":{},"data_offsets":{}}})", dtype, shape, offsets),
      data_bytes);
}

std::vector<MalformedFile> sizes() {
  const std::uint64_t size = kHeader.size();
  return {
      {"Empty", "", "0 bytes are too short for a safetensors file"},
      {"SevenBytes", valid_file().substr(0, 7), "7 bytes are too short"},
      {"NoHeader", valid_file().substr(0, 8), "but only 0 follow; the file is truncated"},
      {"HeaderCutOff", valid_file().substr(0, 50), "but only 42 follow; the file is truncated"},
      {"HeaderOfNoBytes", with_claimed_size(0), "the header must start with '{'"},
      {"HeaderOfOneByte", with_claimed_size(1), "not valid JSON"},
      {"HeaderOneByteShort", with_claimed_size(size - 1), "not valid JSON"},
      {"HeaderReachesIntoTheData", with_claimed_size(size + 4), "not valid JSON"},
      {"HeaderPastTheEnd", with_claimed_size(size + kDataBytes + 1), "but only"},
      {"HeaderOverTheLimit", with_claimed_size(100'000'001), "at most 100000000 are allowed"},
      {"HeaderOfAllOnes", with_claimed_size(~std::uint64_t{0}), "claims 18446744073709551615"},
      {"HeaderSizeBigEndian", with_claimed_size(size << 56), "this is no safetensors file"},
      {"AnotherFormat", "PK\x03\x04 and the rest of an archive", "this is no safetensors file"},
      {"PointerToALargeFile", "version https://git-lfs.github.com/spec/v1\noid sha256:00",
       "this is no safetensors file"},
      {"OneByteMissing", valid_file().substr(0, valid_file().size() - 1), "b ends at byte"},
      {"AllDataMissing", safetensors_file(kHeader, 0), "a ends at byte"},
      {"OneByteTooMany", valid_file() + "x",
       "1 bytes follow the last tensor; the file was extended"},
      {"TwoFilesInOne", valid_file() + valid_file(), "bytes follow the last tensor"},
      {"DataWithoutTensors", safetensors_file("{}", 4), "4 bytes follow the last tensor"},
  };
}

std::vector<MalformedFile> texts() {
  const auto header = [](const std::string& text) { return safetensors_file(text, 0); };
  return {
      {"LeadingSpace", header(" {}"), "must start with '{'"},
      {"ByteOrderMark", header("\xEF\xBB\xBF{}"), "must start with '{'"},
      {"ArrayHeader", header("[]"), "must start with '{'"},
      {"StringHeader", header("\"a\""), "must start with '{'"},
      {"CutWithinAnObject", header(R"({"a":)"), "not valid JSON"},
      {"CutWithinAString", header(R"({"a)"), "not valid JSON"},
      {"CutWithinAnEscape", header("{\"a\\"), "not valid JSON"},
      {"TextBehindTheObject", header("{}x"), "not valid JSON"},
      {"TwoObjects", header("{}{}"), "not valid JSON"},
      {"ZeroByteBehindTheObject", header(std::string("{}\0junk", 7)), "byte 2 is zero"},
      {"ZeroPadding", header(std::string("{}\0\0\0\0\0\0", 8)), "byte 2 is zero"},
      {"ZeroByteInAName", header(std::string("{\"\0\":1}", 7)), "byte 2 is zero"},
      {"InvalidUtf8", header("{\"\xFF\":1}"), "not valid JSON"},
      {"TruncatedUtf8", header("{\"\xE2\x82\":1}"), "not valid JSON"},
      {"OverlongUtf8", header("{\"\xC0\xAF\":1}"), "not valid JSON"},
      {"SurrogateInUtf8", header("{\"\xED\xA0\x80\":1}"), "not valid JSON"},
      {"LoneSurrogate", header(R"({"\ud800":1})"), "not valid JSON"},
      {"UnknownEscape", header(R"({"\x":1})"), "not valid JSON"},
      {"LineFeedInAName", header("{\"\n\":1}"), "not valid JSON"},
      {"TrailingComma", with("[8,14]}}", "[8,14]},}"), "not valid JSON"},
      {"MissingComma", with("]},\"b\"", "]}\"b\""), "not valid JSON"},
      {"SingleQuotes", with("\"F32\"", "'F32'"), "not valid JSON"},
      {"BareKey", with("\"a\"", "a"), "not valid JSON"},
      {"Comment", with("\"a\"", "/* first */\"a\""), "not valid JSON"},
      {"NotANumber", with("[2]", "[NaN]"), "not valid JSON"},
      {"LeadingZero", with("[2]", "[02]"), "not valid JSON"},
      {"PlusSign", with("[2]", "[+2]"), "not valid JSON"},
      {"HexadecimalNumber", with("[2]", "[0x2]"), "not valid JSON"},
      {"NumberBeyondDouble", with("[2]", "[1e999]"), "not valid JSON"},
      {"CrossedBrackets", with("[2]", "[2}"), "not valid JSON"},
      {"ManyArrays", header("{\"a\":" + repeated("[", 100'000)), "nests deeper than 3 levels"},
      {"ManyObjects", header(repeated("{\"a\":", 100'000)), "nests deeper than 3 levels"},
      {"ManyClosedArrays", header("{\"a\":" + repeated("[", 50'000) + repeated("]", 50'000) + "}"),
       "nests deeper than 3 levels"},
      {"ShapeWithinAShape", with("[2]", "[[2]]"), "nests deeper than 3 levels"},
      {"ObjectWithinMetadata", with("\"pt\"", R"({"a":{}})"), "nests deeper than 3 levels"},
  };
}

std::vector<MalformedFile> keys() {
  return {
      {"TensorTwice", with("\"b\"", "\"a\""), "the key 'a' appears twice"},
      {"TensorTwiceInTwoSpellings", with("\"b\"", R"("\u0061")"), "the key 'a' appears twice"},
      {"MetadataTwice", with("\"b\"", "\"__metadata__\""), "'__metadata__' appears twice"},
      {"MetadataKeyTwice", with("\"pt\"", R"("pt","format":"np")"),
       "the key 'format' appears twice"},
      {"DtypeTwice", with("\"F32\"", R"("F32","dtype":"F64")"), "the key 'dtype' appears twice"},
      {"ShapeTwice", with("[2]", R"([2],"shape":[1])"), "the key 'shape' appears twice"},
      {"OffsetsTwice", with("[0,8]", R"([0,8],"data_offsets":[0,4])"),
       "the key 'data_offsets' appears twice"},
      {"MetadataIsANumber", with(R"({"format":"pt"})", "3"), "__metadata__ must map strings"},
      {"MetadataIsNull", with(R"({"format":"pt"})", "null"), "__metadata__ must map strings"},
      {"MetadataIsAnArray", with(R"({"format":"pt"})", R"(["pt"])"),
       "__metadata__ must map strings"},
      {"MetadataHoldsANumber", with("\"pt\"", "3"), "__metadata__ must map strings to strings"},
      {"MetadataHoldsNull", with("\"pt\"", "null"), "__metadata__ must map strings to strings"},
      {"MetadataHoldsAnObject", with("\"pt\"", "{}"), "__metadata__ must map strings to strings"},
      {"EntryIsANumber", tensor("3", 0),
       "w: expected an object with dtype, shape and data_offsets"},
      {"EntryIsNull", tensor("null", 0), "w: expected an object"},
      {"EntryIsAnArray", tensor("[]", 0), "w: expected an object"},
      {"EntryIsEmpty", tensor("{}", 0), "w: dtype is missing"},
      {"DtypeMissing", with(R"("dtype":"F32",)", ""), "a: dtype is missing"},
      {"ShapeMissing", with(R"("shape":[2],)", ""), "a: shape is missing"},
      {"OffsetsMissing", with(R"(,"data_offsets":[0,8])", ""), "a: data_offsets is missing"},
      {"KeyInCapitals", with(R"("shape":[2])", R"("Shape":[2])"), "a: shape is missing"},
  };
}

std::vector<MalformedFile> values() {
  return {
      {"DtypeIsANumber", tensor("32", "[2]", "[0,8]"), "w: dtype must be a string"},
      {"DtypeIsNull", tensor("null", "[2]", "[0,8]"), "w: dtype must be a string"},
      {"DtypeUnknown", tensor(R"("F12")", "[2]", "[0,8]"),
       "w: dtype 'F12' is none of the format's"},
      {"DtypeInSmallLetters", tensor(R"("f32")", "[2]", "[0,8]"), "dtype 'f32' is none"},
      {"DtypeEmpty", tensor(R"("")", "[2]", "[0,8]"), "dtype '' is none"},
      {"DtypeOfAnEndlessName", tensor('"' + std::string(5000, 'F') + '"', "[2]", "[0,8]"),
       std::string(200, 'F') + "...' is none"},
      {"DtypeThatObeysATerminal", tensor(R"("\u001b[2J")", "[2]", "[0,8]"), "dtype '?[2J' is none"},
      {"ShapeIsANumber", tensor(R"("F32")", "2", "[0,8]"), "w: shape must be an array"},
      {"ShapeIsNull", tensor(R"("F32")", "null", "[0,8]"), "w: shape must be an array"},
      {"ShapeIsAString", tensor(R"("F32")", R"("[2]")", "[0,8]"), "w: shape must be an array"},
      {"ShapeIsAnObject", tensor(R"("F32")", R"({"0":2})", "[0,8]"), "w: shape must be an array"},
      {"ShapeNegative", tensor(R"("F32")", "[-2]", "[0,8]"),
       "shape must hold non-negative integers"},
      {"ShapeMinusZero", tensor(R"("F32")", "[-0]", "[0,0]", 0), "must hold non-negative integers"},
      {"ShapeFraction", tensor(R"("F32")", "[2.0]", "[0,8]"),
       "integers of at most 1152921504606846975"},
      {"ShapeWithExponent", tensor(R"("F32")", "[2e0]", "[0,8]"), "got 2.0"},
      {"ShapeOfStrings", tensor(R"("F32")", R"(["2"])", "[0,8]"), "got \"2\""},
      {"ShapeOfBooleans", tensor(R"("F32")", "[true,2]", "[0,8]"), "got true"},
      {"ShapeOfNull", tensor(R"("F32")", "[null]", "[0,8]"), "got null"},
      {"ShapeBeyond64Bits", tensor(R"("F32")", "[18446744073709551616]", "[0,8]"), "got 1.8"},
      {"ShapeBeyond63Bits", tensor(R"("F32")", "[9223372036854775808]", "[0,8]"), "got 9223372036"},
      {"FiveDimensions", tensor(R"("F32")", "[1,1,1,1,2]", "[0,8]"), "5 dimensions, at most 4"},
      {"ManyDimensions", tensor(R"("F32")", "[1" + repeated(",1", 99'999) + "]", "[0,4]", 4),
       "100000 dimensions, at most 4"},
      {"ProductOverflows", tensor(R"("F32")", "[4294967296,4294967296,2]", "[0,8]"),
       "w: the shape's product overflows"},
      {"ProductOverflowsToTwo", tensor(R"("F32")", "[9223372036854775809,2]", "[0,8]"),
       "must hold non-negative integers of at most"},
      {"ProductOverflowsBeforeAZero", tensor(R"("F32")", "[4294967296,4294967296,0]", "[0,0]", 0),
       "product overflows"},
      {"ProductOverflowsAroundAZero", tensor(R"("F32")", "[1152921504606846975,0,9]", "[0,0]", 0),
       "product overflows"},
      {"SizeOfExbibytes", tensor(R"("F64")", "[1152921504606846975]", "[0,8]"),
       "need 9223372036854775800"},
      {"OffsetsAreANumber", tensor(R"("F32")", "[2]", "8"), "must be an array [begin, end]"},
      {"OffsetsAreAnObject", tensor(R"("F32")", "[2]", R"({"begin":0,"end":8})"),
       "must be an array [begin, end]"},
      {"NoOffsets", tensor(R"("F32")", "[2]", "[]"), "must be an array [begin, end]"},
      {"OneOffset", tensor(R"("F32")", "[2]", "[8]"), "must be an array [begin, end]"},
      {"ThreeOffsets", tensor(R"("F32")", "[2]", "[0,8,8]"), "must be an array [begin, end]"},
      {"OffsetsNegative", tensor(R"("F32")", "[2]", "[-8,0]"), "non-negative integers of at most"},
      {"OffsetsFraction", tensor(R"("F32")", "[2]", "[0,8.0]"), "got 8.0"},
      {"OffsetsOfStrings", tensor(R"("F32")", "[2]", R"(["0","8"])"), "got \"0\""},
      {"OffsetsOfNull", tensor(R"("F32")", "[2]", "[0,null]"), "got null"},
      {"OffsetsThatWrapAround", tensor(R"("F32")", "[2]", "[18446744073709551608,0]"),
       "data_offsets must hold non-negative integers"},
      {"OffsetsReversed", tensor(R"("F32")", "[2]", "[8,0]"), "end at 0 before they begin at 8"},
  };
}

std::vector<MalformedFile> tilings() {
  const std::string z = R"("z":{"dtype":"F32","shape":[0],"data_offsets":)";
  const auto third = [&](const std::string& entry, std::size_t data_bytes = kDataBytes) {
    return safetensors_file(replaced(kHeader, "[8,14]}}", "[8,14]}," + entry + "}"), data_bytes);
  };
  return {
      {"SpanTooShort", with("[2]", "[3]"),
       "a: data_offsets span 8 bytes, dtype F32 and shape (3) need 12"},
      {"SpanTooLong", with("[2]", "[1]"),
       "a: data_offsets span 8 bytes, dtype F32 and shape (1) need 4"},
      {"SpanOfAnotherDtype", with("\"F32\"", "\"F64\""), "dtype F64 and shape (2) need 16"},
      {"SpanOfADtypeThatIsNotLoaded", with("\"F32\"", "\"C64\""),
       "dtype C64 and shape (2) need 16"},
      {"ScalarWithoutBytes", tensor(R"("F32")", "[]", "[0,0]", 0), "span 0 bytes"},
      {"EmptyTensorWithBytes", tensor(R"("F32")", "[0,5]", "[0,8]"), "span 8 bytes"},
      {"HalfAByteOfF4", tensor(R"("F4")", "[3]", "[0,2]", 2),
       "w: 3 elements of 4 bits do not fill whole bytes"},
      {"PartOfAByteOfF6", tensor(R"("F6_E2M3")", "[2,3]", "[0,5]", 5),
       "6 elements of 6 bits do not fill whole bytes"},
      {"SpanOfBytesForF4", tensor(R"("F4")", "[8]", "[0,8]"), "dtype F4 and shape (8) need 4"},
      {"FirstNotAtZero", tensor(R"("F32")", "[1]", "[4,8]"), "4 unused bytes before w"},
      {"Hole", safetensors_file(replaced(kHeader, "[8,14]", "[12,18]"), 18),
       "4 unused bytes before b"},
      {"BeyondTheEnd", with("[8,14]", "[1000,1006]"), "992 unused bytes before b"},
      {"AtTheEndOfAddressSpace", with("[8,14]", "[1152921504606846969,1152921504606846975]"),
       "unused bytes before b"},
      {"Overlap", with("[8,14]", "[7,13]"), "b overlaps the tensor before it"},
      {"OneWithinTheOther", with("[8,14]", "[1,7]"), "b overlaps the tensor before it"},
      {"BothInOnePlace", with("[8,14]", "[0,6]"), "a overlaps the tensor before it"},
      {"EmptyTensorWithinAnother", third(z + "[4,4]}"), "z overlaps the tensor before it"},
      {"EmptyTensorPastTheEnd", third(z + "[15,15]}"), "1 unused bytes before z"},
      {"ThirdTensorWithoutData", third(R"("c":{"dtype":"U8","shape":[1],"data_offsets":[14,15]})"),
       "c ends at byte"},
      {"NameOfManyCharacters",
       safetensors_file(replaced(kHeader, "\"b\"", '"' + std::string(10'000, 'b') + '"'), 13),
       std::string(200, 'b') + "... ends at byte"},
  };
}

class MalformedSafetensors : public ::testing::TestWithParam<MalformedFile> {};

TEST_P(MalformedSafetensors, IsRefused) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "model.safetensors";
  write_file(path, GetParam().content);
  expect_refused(path, GetParam(), [&] { SafetensorsReader reader(path); });
}

INSTANTIATE_TEST_SUITE_P(Sizes, MalformedSafetensors, ValuesIn(sizes()), mutation);
INSTANTIATE_TEST_SUITE_P(Text, MalformedSafetensors, ValuesIn(texts()), mutation);
INSTANTIATE_TEST_SUITE_P(Keys, MalformedSafetensors, ValuesIn(keys()), mutation);
INSTANTIATE_TEST_SUITE_P(Values, MalformedSafetensors, ValuesIn(values()), mutation);
INSTANTIATE_TEST_SUITE_P(Tiling, MalformedSafetensors, ValuesIn(tilings()), mutation);

TEST(ValidSafetensors, IsRead) {
  const TemporaryFolder folder;
  write_file(folder / "model.safetensors", valid_file());
  EXPECT_THAT(SafetensorsReader(folder / "model.safetensors").names(),
              ::testing::ElementsAre("a", "b"));
}

}  // namespace
}  // namespace polyhead
