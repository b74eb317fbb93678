#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "framework/checkpoint/element_conversion.h"
#include "framework/checkpoint/safetensors_reader.h"
#include "framework/checkpoint/safetensors_writer.h"
#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using testing::bitwise_equal;
using testing::error_of;
using ::testing::HasSubstr;
using testing::random_tensor;
using testing::read_file;
using testing::TemporaryFolder;
using testing::write_file;

std::string file_of(const std::string& header, std::size_t data_bytes) {
  std::string prefix(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(prefix.data(), &size, 8);
  return prefix + header + std::string(data_bytes, '\x01');
}

struct BrokenFile {
  std::string name;
  std::string content;
  std::string message;
};

std::string with_entry(const std::string& entry) {
  return R"({"w":)" + entry + "}";
}

std::vector<BrokenFile> broken_files() {
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string b = R"("b":{"dtype":"F32","shape":[1,3],"data_offsets":[8,20]})";
  const std::string good = file_of("{" + a + "," + b + "}", 20);
  std::string oversized = good;
  oversized.replace(0, 8, std::string("\x01\xE1\xF5\x05\0\0\0\0", 8));  // 100,000,001
  std::string past_the_end = good;
  past_the_end[1] = '\x7F';
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += R"({"a":)";
  const auto entry = [](const std::string& json, std::size_t bytes = 8) {
    return file_of(with_entry(json), bytes);
  };
  return {
      {"Empty", "", "0 bytes are too short"},
      {"SevenBytes", good.substr(0, 7), "7 bytes are too short"},
      {"HeaderOverTheLimit", oversized, "claims 100000001 bytes, at most 100000000"},
      {"HeaderPastTheEnd", past_the_end, "the file is truncated"},
      {"EmptyHeader", file_of("", 0), "must start with '{'"},
      {"LeadingSpace", file_of(" {}", 0), "must start with '{'"},
      {"ArrayHeader", file_of("[]", 0), "must start with '{'"},
      {"NotJson", file_of("{\"a\":", 0), "not valid JSON"},
      {"TextBehindTheObject", file_of("{}x", 0), "not valid JSON"},
      {"InvalidUtf8", file_of("{\"\xFF\":1}", 0), "not valid JSON"},
      {"DeepNesting", file_of(deep, 0), "nests deeper than 16"},
      {"DuplicateTensor", file_of("{" + a + "," + a + "}", 8), "the key 'a' appears twice"},
      {"DuplicateField", entry(R"({"dtype":"F32","dtype":"F64"})"), "'dtype' appears twice"},
      {"MetadataNotAnObject", file_of(R"({"__metadata__":3})", 0), "map strings to strings"},
      {"MetadataValueNotAString", file_of(R"({"__metadata__":{"a":3}})", 0),
       "map strings to strings"},
      {"EntryNotAnObject", entry("3"), "w: expected an object"},
      {"DtypeMissing", entry(R"({"shape":[2],"data_offsets":[0,8]})"), "w: dtype is missing"},
      {"DtypeNotAString", entry(R"({"dtype":1,"shape":[2],"data_offsets":[0,8]})"),
       "w: dtype must be a string"},
      {"DtypeUnknown", entry(R"({"dtype":"F4","shape":[2],"data_offsets":[0,8]})"),
       "w: dtype F4 is not supported; convert"},
      {"ShapeMissing", entry(R"({"dtype":"F32","data_offsets":[0,8]})"), "w: shape is missing"},
      {"ShapeNotAnArray", entry(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"),
       "w: shape must be an array"},
      {"ShapeNegative", entry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"),
       "non-negative integers, got -2"},
      {"ShapeFraction", entry(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"),
       "non-negative integers, got 2.0"},
      {"ShapeBeyond64Bits",
       entry(R"({"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]})"),
       "non-negative integers"},
      {"ShapeOfFiveDimensions",
       entry(R"({"dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[0,8]})"),
       "5 dimensions, at most 4"},
      {"ShapeOverflow",
       entry(R"({"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]})"),
       "product overflows"},
      {"OffsetsMissing", entry(R"({"dtype":"F32","shape":[2]})"), "data_offsets is missing"},
      {"OffsetsOfOneNumber", entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8]})"),
       "array [begin, end]"},
      {"OffsetsNegative", entry(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"),
       "non-negative integers, got -8"},
      {"OffsetsReversed", entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"),
       "end at 0 before they begin at 8"},
      {"SizeMismatch", entry(R"({"dtype":"F64","shape":[2],"data_offsets":[0,8]})"),
       "span 8 bytes, dtype and shape (2) need 16"},
      {"Hole", file_of("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})", 16),
       "4 unused bytes before b"},
      {"FirstNotAtZero", entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"),
       "4 unused bytes before w"},
      {"Overlap", file_of("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8),
       "b overlaps the tensor before it"},
      {"Truncated", good.substr(0, good.size() - 1), "b ends at byte"},
      {"Extended", good + "x", "1 bytes follow the last tensor; the file was extended"},
      {"DataWithoutTensors", file_of("{}", 4), "4 bytes follow"},
  };
}

class BrokenSafetensors : public ::testing::TestWithParam<BrokenFile> {};

TEST_P(BrokenSafetensors, IsRefusedWithTheReason) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "model.safetensors";
  write_file(path, GetParam().content);
  const std::string error = error_of([&] { SafetensorsReader reader(path); });
  EXPECT_THAT(error, HasSubstr(GetParam().message));
  EXPECT_THAT(error, HasSubstr(path.string()));
}

INSTANTIATE_TEST_SUITE_P(Rules, BrokenSafetensors, ::testing::ValuesIn(broken_files()),
                         [](const auto& test) { return test.param.name; });

TEST(Safetensors, ReadsWhatTheFormatAllows) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "x.safetensors";
  write_file(path, file_of(R"({"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                           R"("none":{"dtype":"F64","shape":[0,5],"data_offsets":[4,4]},)"
                           R"("__metadata__":{"a":"b"},)"
                           R"("odd":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]}}   )",
                           6));
  const SafetensorsReader reader(path);
  EXPECT_EQ(reader.tensors().size(), 3U);
  EXPECT_EQ(reader.read("scalar").shape().rank(), 0);
  EXPECT_EQ(reader.read("none").numel(), 0);
  EXPECT_EQ(reader.info("odd").dtype, DType::kBf16);
  EXPECT_THAT(error_of([&] { reader.read("absent"); }), HasSubstr("the tensor absent is missing"));
}

struct Written {
  std::vector<TensorInfo> infos;
  std::vector<Tensor> tensors;  // in the order of the file
  std::vector<FileRecord> files;
};

Written write_three(const TemporaryFolder& folder, std::uint64_t max_shard_bytes) {
  Written written;
  SafetensorsWriter writer(
      folder.path(), "model",
      {{"b", DType::kF32, {3, 5}}, {"a", DType::kF32, {7}}, {"z", DType::kF64, {2, 2, 3}}},
      max_shard_bytes);
  written.infos = writer.tensors();
  for (const TensorInfo& info : written.infos) {
    written.tensors.push_back(random_tensor(info.shape, info.dtype, info.name));
    writer.write(written.tensors.back());
  }
  written.files = writer.finish();
  return written;
}

TEST(Safetensors, RoundTripIsBitwise) {
  const TemporaryFolder folder;
  const Written written = write_three(folder, SafetensorsWriter::kDefaultShardBytes);
  EXPECT_EQ(written.infos[0].name, "z") << "the widest elements come first";
  EXPECT_EQ(written.infos[1].name, "a");
  const SafetensorsReader reader(folder.path(), "model");
  for (std::size_t i = 0; i < written.infos.size(); ++i) {
    EXPECT_TRUE(bitwise_equal(reader.read(written.infos[i].name), written.tensors[i]));
  }
  const std::string content = read_file(folder / "model.safetensors");
  EXPECT_THAT(content.substr(8, 80), HasSubstr(R"("__metadata__":{"format":"pt"})"));
  EXPECT_EQ(content.size() % 4, 0U);
  ASSERT_EQ(written.files.size(), 1U);
  EXPECT_EQ(written.files[0].bytes, content.size());
  EXPECT_EQ(written.files[0].xxh3_128, content_hash(std::as_bytes(std::span(content))));
}

TEST(Safetensors, SlicesAreConvertedIntoStridedViews) {
  const TemporaryFolder folder;
  write_three(folder, SafetensorsWriter::kDefaultShardBytes);
  const SafetensorsReader reader(folder.path(), "model");
  const Tensor b = reader.read("b");
  Tensor wide = Tensor::zeros({3, 4}, DType::kF64);
  Tensor columns = wide.column_slice(1, 3);
  reader.read_slice("b", 1, 2, 4, columns);
  Tensor rows = Tensor::zeros({2, 5}, DType::kF32);
  reader.read_slice("b", 0, 1, 3, rows);
  for (std::int64_t row = 0; row < 3; ++row) {
    EXPECT_EQ(testing::at(wide, row, 0), 0);
    EXPECT_EQ(testing::at(wide, row, 1), testing::at(b, row, 2));
    EXPECT_EQ(testing::at(wide, row, 2), testing::at(b, row, 3));
    EXPECT_EQ(testing::at(wide, row, 3), 0);
  }
  EXPECT_TRUE(bitwise_equal(rows, b.row_slice(1, 3)));
}

TEST(Safetensors, BfloatRoundsToTheNearestEven) {
  const auto round_trip = [](float value) {
    std::uint16_t bits = 0;
    float back = 0;
    convert_elements(reinterpret_cast<std::byte*>(&value), DType::kF32,
                     reinterpret_cast<std::byte*>(&bits), DType::kBf16, 1);
    convert_elements(reinterpret_cast<std::byte*>(&bits), DType::kBf16,
                     reinterpret_cast<std::byte*>(&back), DType::kF32, 1);
    return back;
  };
  EXPECT_EQ(round_trip(1.0F), 1.0F);
  EXPECT_EQ(round_trip(1.0F + 0x1p-8F), 1.0F) << "a draw goes to the even neighbour";
  EXPECT_EQ(round_trip(1.0F + 3 * 0x1p-8F), 1.0F + 0x1p-6F);
  EXPECT_EQ(round_trip(1.0F + 0x1.1p-8F), 1.0F + 0x1p-7F);
  EXPECT_EQ(round_trip(-INFINITY), -INFINITY);
  EXPECT_TRUE(std::isnan(round_trip(NAN)));
}

TEST(Safetensors, LargeModelsAreSharded) {
  const TemporaryFolder folder;
  const Written written = write_three(folder, 100);
  std::vector<std::string> names;
  for (const FileRecord& file : written.files) names.push_back(file.name);
  EXPECT_THAT(names, ::testing::ElementsAre("model-00001-of-00002.safetensors",
                                            "model-00002-of-00002.safetensors",
                                            "model.safetensors.index.json"));
  const SafetensorsReader reader(folder.path(), "model");
  for (std::size_t i = 0; i < written.infos.size(); ++i) {
    EXPECT_TRUE(bitwise_equal(reader.read(written.infos[i].name), written.tensors[i]));
  }
  EXPECT_THAT(read_file(folder / "model.safetensors.index.json"), HasSubstr("\"total_size\": 184"));
}

TEST(Safetensors, BrokenIndexIsRefused) {
  const TemporaryFolder folder;
  write_three(folder, 100);
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  const std::string good = read_file(index);
  const auto error_with = [&](const std::string& text) {
    write_file(index, text);
    return error_of([&] { SafetensorsReader reader(folder.path(), "model"); });
  };
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  const std::string second = "model-00002-of-00002.safetensors";
  EXPECT_THAT(error_with("{}"), HasSubstr("weight_map"));
  EXPECT_THAT(error_with(R"({"weight_map":{"a":3}})"), HasSubstr("the file of a must be a string"));
  EXPECT_THAT(error_with(replaced(second, "../" + second)),
              HasSubstr("only safetensors files of the same folder"));
  EXPECT_THAT(error_with(replaced(second, "/etc/passwd")), HasSubstr("lies in '/etc/passwd'"));
  EXPECT_THAT(error_with(replaced(second, "absent.safetensors")),
              HasSubstr("the shard absent.safetensors is missing"));
  EXPECT_THAT(error_with(replaced("\"a\"", "\"c\"")), HasSubstr("c is not in"));
  EXPECT_THAT(error_with(R"({"weight_map":{"b":"model-00002-of-00002.safetensors"}})"),
              HasSubstr("holds a, which the index does not list"));
  EXPECT_THAT(error_with(good + "{"), HasSubstr("not valid JSON"));
  EXPECT_EQ(error_with(good), "no error");
  std::filesystem::remove(index);
  EXPECT_THAT(error_of([&] { SafetensorsReader reader(folder.path(), "model"); }),
              HasSubstr("model.safetensors does not exist"));
}

TEST(Safetensors, WriterInsistsOnTheDeclaration) {
  const TemporaryFolder folder;
  SafetensorsWriter writer(folder.path(), "model", {{"a", DType::kF32, {2, 3}}});
  EXPECT_THROW(writer.write(Tensor::zeros({3, 2}, DType::kF32)), std::logic_error);
  EXPECT_THROW(writer.write(Tensor::zeros({2, 3}, DType::kF64)), std::logic_error);
  EXPECT_THROW(writer.finish(), std::logic_error);
  EXPECT_THAT(error_of([&] {
                SafetensorsWriter second(folder.path(), "model", {{"a", DType::kF32, {2, 3}}});
              }),
              HasSubstr("File exists"));
}

}  // namespace
}  // namespace polyhead
