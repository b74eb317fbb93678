#include "framework/checkpoint/safetensors_reader.h"
#include "tests/malformed/malformed_file.h"
#include "tests/support/safetensors_file.h"

namespace polyhead {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::ValuesIn;

const std::string kFirst = "model-00001-of-00002.safetensors";
const std::string kSecond = "model-00002-of-00002.safetensors";
const std::string kIndex = R"({"metadata":{"total_size":8},"weight_map":{"a":")" + kFirst +
                           R"(","b":")" + kSecond + "\"}}";

std::string shard_of(const std::string& tensor) {
  return safetensors_file(
      fmt::format(R"({{"{}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}})", tensor), 4);
}

// A folder with an index of two shards, a in the first and b in the second.
class ShardedModel {
 public:
  ShardedModel() {
    write_file(folder_ / kFirst, shard_of("a"));
    write_file(folder_ / kSecond, shard_of("b"));
    write_file(index(), kIndex);
  }

  std::filesystem::path index() const { return folder_ / "model.safetensors.index.json"; }
  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }
  SafetensorsReader open() const { return {folder_.path(), "model"}; }

 private:
  TemporaryFolder folder_;
};

std::string with(std::string_view from, std::string_view to) {
  return replaced(kIndex, from, to);
}
std::string with_weight_map(const std::string& weight_map) {
  return R"({"weight_map":)" + weight_map + "}";
}

std::vector<MalformedFile> texts() {
  return {
      {"Empty", "", "not valid JSON"},
      {"CutOff", kIndex.substr(0, kIndex.size() - 1), "not valid JSON"},
      {"TextBehindTheObject", kIndex + "x", "not valid JSON"},
      {"ZeroByteBehindTheObject", kIndex + std::string("\0", 1), "is zero"},
      {"InvalidUtf8", with("\"b\"", "\"\x80\""), "not valid JSON"},
      {"DeepMetadata", with("8", repeated("[", 15) + repeated("]", 15)),
       "nests deeper than 16 levels"},
      {"Array", "[]", "weight_map, an object from tensor to file, is missing"},
      {"Null", "null", "weight_map, an object from tensor to file, is missing"},
      {"NoWeightMap", with("weight_map", "weights"), "weight_map, an object from tensor to file"},
      {"WeightMapIsNull", with_weight_map("null"), "weight_map, an object from tensor to file"},
      {"WeightMapIsAnArray", with_weight_map("[\"a\"]"), "weight_map, an object"},
      {"WeightMapIsAString", with_weight_map('"' + kFirst + '"'), "weight_map, an object"},
      {"WeightMapIsEmpty", with_weight_map("{}"), "weight_map lists no tensor"},
      {"WeightMapTwice", with("metadata", "weight_map"), "the key 'weight_map' appears twice"},
      {"TensorTwice", with("\"b\"", "\"a\""), "the key 'a' appears twice"},
      {"TensorTwiceInTwoSpellings", with("\"b\"", R"("\u0061")"), "the key 'a' appears twice"},
  };
}

// What `a` is said to lie in.
std::vector<MalformedFile> shards() {
  const auto a_in = [](const std::string& json) { return with('"' + kFirst + '"', json); };
  return {
      {"IsANumber", a_in("1"), "the file of a must be a string"},
      {"IsNull", a_in("null"), "the file of a must be a string"},
      {"IsAnArray", a_in("[\"" + kFirst + "\"]"), "the file of a must be a string"},
      {"IsAnObject", a_in("{}"), "the file of a must be a string"},
      {"IsEmpty", a_in("\"\""), "a lies in ''; only safetensors files of the same folder"},
      {"InTheParent", a_in("\"../" + kFirst + '"'), "only safetensors files of the same folder"},
      {"InASubfolder", a_in("\"sub/" + kFirst + '"'), "only safetensors files of the same folder"},
      {"Absolute", a_in("\"/etc/x.safetensors\""), "a lies in '/etc/x.safetensors'; only"},
      {"ThroughTheFolderItself", a_in("\"./" + kFirst + '"'), "only safetensors files of the same"},
      {"OfAnotherFormat", a_in("\"model.bin\""), "only safetensors files"},
      {"TheIndexItself", a_in("\"model.safetensors.index.json\""), "only safetensors files"},
      {"WithAZeroByte", a_in(R"("model.bin\u0000.safetensors")"), "model.bin?.safetensors'; only"},
      {"WithALineFeed", a_in(R"("model\n.safetensors")"), "a lies in 'model?.safetensors'; only"},
      {"WithAnEscapeSequence", a_in(R"("\u001b]0;.safetensors")"), "a lies in '?]0;.safetensors'"},
      {"Missing", a_in("\"model-00003-of-00002.safetensors\""),
       "the shard model-00003-of-00002.safetensors is missing"},
      {"InCapitals", a_in("\"MODEL-00001-of-00002.safetensors\""), "is missing"},
      {"NothingButTheEnding", a_in("\".safetensors\""), "the shard .safetensors is missing"},
  };
}

std::vector<MalformedFile> contents() {
  return {
      {"TensorInNoShard", with("\"a\"", "\"c\""), "c is not in " + kFirst},
      {"TensorOfAListedShardNotListed", with("\"b\":", "\"b\":\"" + kSecond + "\",\"c\":"),
       "c is not in " + kSecond},
      {"TensorInTheOtherShard", with(kFirst, kSecond), "a is not in " + kSecond},
      {"TensorsExchanged",
       with_weight_map(fmt::format(R"({{"a":"{}","b":"{}"}})", kSecond, kFirst)),
       "a is not in " + kSecond},
      {"EmptyName", with("\"b\"", "\"\""), " is not in " + kSecond},
  };
}

class MalformedIndex : public ::testing::TestWithParam<MalformedFile> {};

TEST_P(MalformedIndex, IsRefused) {
  const ShardedModel model;
  write_file(model.index(), GetParam().content);
  expect_refused(model.index(), GetParam(), [&] { model.open(); });
}

INSTANTIATE_TEST_SUITE_P(Text, MalformedIndex, ValuesIn(texts()), mutation);
INSTANTIATE_TEST_SUITE_P(Shard, MalformedIndex, ValuesIn(shards()), mutation);
INSTANTIATE_TEST_SUITE_P(Content, MalformedIndex, ValuesIn(contents()), mutation);

// The index is right, its second shard is not.
class MalformedShard : public ::testing::TestWithParam<MalformedFile> {};

TEST_P(MalformedShard, IsRefused) {
  const ShardedModel model;
  write_file(model / kSecond, GetParam().content);
  expect_refused(model / kSecond, GetParam(), [&] { model.open(); });
}

INSTANTIATE_TEST_SUITE_P(Content, MalformedShard,
                         ValuesIn(std::vector<MalformedFile>{
                             {"Empty", "", "0 bytes are too short"},
                             {"CutOff", shard_of("b").substr(0, 40), "the file is truncated"},
                             {"TheIndex", kIndex, "this is no safetensors file"},
                             {"HoldsTheOtherShardsTensor", shard_of("a"), "a is also in "},
                         }),
                         mutation);

TEST(SafetensorsIndex, ATensorThatIsNotListedIsRefused) {
  const ShardedModel model;
  write_file(model.index(), with(",\"b\":\"" + kSecond + '"', ""));
  EXPECT_EQ(error_of([&] { model.open(); }), "no error")
      << "a shard that is not listed is not read";
  write_file(model / kFirst,
             safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                              R"("c":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                              8));
  EXPECT_THAT(error_of([&] { model.open(); }),
              ::testing::HasSubstr(kFirst + " holds c, which the index does not list"));
}

TEST(SafetensorsIndex, AShardUnderTwoNamesIsRefused) {
  const ShardedModel model;
  std::filesystem::remove(model / kSecond);
  std::filesystem::create_symlink(kFirst, model / kSecond);
  EXPECT_THAT(error_of([&] { model.open(); }), ::testing::HasSubstr("a is also in"));
}

// Most of it is a hole of the file, which no test need fill.
TEST(SafetensorsIndex, AnIndexBeyondTheLimitIsNotRead) {
  const ShardedModel model;
  std::filesystem::resize_file(model.index(), std::uintmax_t{1} << 34);
  expect_refused(model.index(), {"", kIndex, "at most 100000000 are read"}, [&] { model.open(); });
}

TEST(SafetensorsIndex, MetadataIsNotRead) {
  const ShardedModel model;
  EXPECT_THAT(model.open().names(), ElementsAre("a", "b"));
  for (const char* metadata : {R"("metadata":{"total_size":7},)", R"("metadata":"",)", ""}) {
    write_file(model.index(), with(R"("metadata":{"total_size":8},)", metadata));
    EXPECT_THAT(model.open().names(), ElementsAre("a", "b"));
  }
}

}  // namespace
}  // namespace polyhead
