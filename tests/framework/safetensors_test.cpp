#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <numeric>

#include "framework/bf16.h"
#include "framework/checkpoint/element_conversion.h"
#include "framework/checkpoint/safetensors_reader.h"
#include "framework/checkpoint/safetensors_writer.h"
#include "framework/f16.h"
#include "tests/support/compare.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using testing::bitwise_equal;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::random_tensor;
using testing::read_file;
using testing::safetensors_file;
using testing::TemporaryFolder;
using testing::write_file;

TEST(Safetensors, ReadsWhatTheFormatAllows) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "x.safetensors";
  write_file(path,
             safetensors_file(R"({"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
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

TEST(Safetensors, OrderOfKeysMeansNothing) {
  const TemporaryFolder folder;
  write_file(folder / "x.safetensors",
             safetensors_file(R"({"b":{"data_offsets":[4,8],"shape":[1],"dtype":"I32"},)"
                              R"("a":{"shape":[4],"more":0,"data_offsets":[0,4],"dtype":"U8"},)"
                              R"("__metadata__":{}})",
                              8));
  const SafetensorsReader reader(folder / "x.safetensors");
  EXPECT_THAT(reader.names(), ElementsAre("a", "b"));
  EXPECT_EQ(reader.read("b").data<std::int32_t>()[0], 0x01010101);
}

TEST(Safetensors, DtypesThatAreNotLoadedAreKnownByName) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "x.safetensors";
  const auto write = [&](std::string_view dtype, std::size_t bytes) {
    write_file(path, safetensors_file(fmt::format(R"({{"w":{{"dtype":"{}","shape":[8],)"
                                                  R"("data_offsets":[0,{}]}}}})",
                                                  dtype, bytes),
                                      bytes));
  };
  const std::pair<std::string_view, std::size_t> types[] = {
      {"BOOL", 8},        {"U8", 8},      {"I8", 8},      {"U16", 16},
      {"I16", 16},        {"U32", 32},    {"U64", 64},    {"C64", 64},
      {"F8_E4M3", 8},     {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
      {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}};
  for (const auto& [dtype, bytes] : types) {
    write(dtype, bytes);
    const SafetensorsReader reader(path);
    EXPECT_THAT(reader.names(), ElementsAre("w"));
    const std::string refusal =
        fmt::format("x.safetensors: w holds {}, which is not loaded", dtype);
    EXPECT_THAT(error_of([&] { reader.info("w"); }), HasSubstr(refusal));
    EXPECT_THAT(error_of([&] { reader.read("w"); }), HasSubstr(refusal));
    EXPECT_THAT(error_of([&] { reader.tensors(); }), HasSubstr(refusal));
  }
  write("I64", 64);
  EXPECT_EQ(SafetensorsReader(path).read("w").data<std::int64_t>()[7], 0x0101010101010101);
}

// Whose rows no loop may visit.
TEST(Safetensors, ReadsATensorOfManyRowsAndNoColumns) {
  const TemporaryFolder folder;
  write_file(folder / "x.safetensors",
             safetensors_file(
                 R"({"w":{"dtype":"F32","shape":[1000000000000,0],"data_offsets":[0,0]}})", 0));
  EXPECT_EQ(SafetensorsReader(folder / "x.safetensors").read("w").numel(), 0);
}

TEST(Safetensors, FollowsLinksToFiles) {
  const TemporaryFolder folder;
  write_file(folder / "blob", safetensors_file("{}", 0));
  std::filesystem::create_symlink("blob", folder / "model.safetensors");
  EXPECT_TRUE(SafetensorsReader(folder.path(), "model").names().empty());
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

// The value of an f16 by its definition (IEEE 754 binary16), in steps that are exact in f64.
double f16_by_definition(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 31  ? fraction == 0 ? INFINITY : NAN
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(1024 + fraction, exponent - 25);
  return std::copysign(magnitude, (bits & 0x8000) != 0 ? -1.0 : 1.0);
}

TEST(Safetensors, EveryHalfIsConverted) {
  std::vector<std::uint16_t> halves(65536);
  std::iota(halves.begin(), halves.end(), std::uint16_t{0});
  const auto convert_to = [&]<class T>(std::vector<T> out, DType dtype) {
    convert_elements(reinterpret_cast<const std::byte*>(halves.data()), DType::kF16,
                     reinterpret_cast<std::byte*>(out.data()), dtype, 65536);
    return out;
  };
  const auto floats = convert_to(std::vector<float>(65536), DType::kF32);
  const auto doubles = convert_to(std::vector<double>(65536), DType::kF64);
  const auto shorts = convert_to(std::vector<Bf16>(65536), DType::kBf16);
  for (const std::uint16_t half : halves) {
    const double want = f16_by_definition(half);
    ASSERT_EQ(std::signbit(floats[half]), std::signbit(want)) << half;
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(floats[half]) && std::isnan(doubles[half])) << half;
      ASSERT_TRUE(std::isnan(to_float(shorts[half]))) << half;
      ASSERT_EQ(std::bit_cast<std::uint32_t>(floats[half]) >> 13 & 1023, half & 1023U) << half;
    } else {
      ASSERT_EQ(floats[half], want) << half;
      ASSERT_EQ(doubles[half], want) << half;
      ASSERT_EQ(shorts[half].bits, to_bf16(static_cast<float>(want)).bits) << half;
    }
  }
  EXPECT_TRUE(converts(DType::kF16, DType::kBf16));
  EXPECT_TRUE(converts(DType::kBf16, DType::kF16));
  EXPECT_FALSE(converts(DType::kF64, DType::kF16));
  EXPECT_FALSE(converts(DType::kI64, DType::kF64));
}

// Every half comes back, and what lies between two goes to the nearer, a draw to the even one.
TEST(Safetensors, FloatsBecomeTheNearestHalf) {
  constexpr std::uint16_t kInfinity = 0x7C00;
  for (std::uint16_t half = 0; half < kInfinity; ++half) {
    const float value = to_float(F16{half});
    ASSERT_EQ(to_f16(value).bits, half);
    ASSERT_EQ(to_f16(-value).bits, half | 0x8000);
    const double next = half + 1 == kInfinity ? 65536.0 : to_float(F16{std::uint16_t(half + 1)});
    const auto middle = static_cast<float>((value + next) / 2);
    const std::uint16_t even = half % 2 == 0 ? half : std::uint16_t(half + 1);
    ASSERT_EQ(to_f16(middle).bits, even) << half;
    ASSERT_EQ(to_f16(std::nextafter(middle, 0.0F)).bits, half);
    ASSERT_EQ(to_f16(std::nextafter(middle, INFINITY)).bits, half + 1);
  }
  EXPECT_EQ(to_f16(INFINITY).bits, kInfinity);
  EXPECT_EQ(to_f16(1e30F).bits, kInfinity);
  EXPECT_TRUE(std::isnan(to_float(to_f16(NAN))));
}

TEST(Safetensors, HalvesAreReadInTheirDtypeOrAWiderOne) {
  const TemporaryFolder folder;
  std::string file =
      safetensors_file(R"({"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 0);
  file += std::string("\x00\x3C\x01\x80", 4);  // 1 and the smallest negative subnormal
  write_file(folder / "x.safetensors", file);
  const SafetensorsReader reader(folder / "x.safetensors");
  EXPECT_EQ(reader.read("w").data<F16>()[1].bits, 0x8001);
  Tensor wide = Tensor::empty({2}, DType::kF32);
  reader.read_slice("w", 0, 0, 2, wide);
  EXPECT_EQ(wide.data<float>()[0], 1.0F);
  EXPECT_EQ(wide.data<float>()[1], -0x1p-24F);
}

TEST(Safetensors, LargeModelsAreSharded) {
  const TemporaryFolder folder;
  const Written written = write_three(folder, 100);
  std::vector<std::string> names;
  for (const FileRecord& file : written.files) names.push_back(file.name);
  EXPECT_THAT(names,
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json"));
  const SafetensorsReader reader(folder.path(), "model");
  for (std::size_t i = 0; i < written.infos.size(); ++i) {
    EXPECT_TRUE(bitwise_equal(reader.read(written.infos[i].name), written.tensors[i]));
  }
  EXPECT_THAT(read_file(folder / "model.safetensors.index.json"), HasSubstr("\"total_size\": 184"));
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
