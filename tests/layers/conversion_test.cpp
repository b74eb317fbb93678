#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "framework/checkpoint/checkpoint_folder.h"
#include "framework/checkpoint/element_conversion.h"
#include "framework/checkpoint/safetensors_reader.h"
#include "framework/checkpoint/safetensors_writer.h"
#include "framework/parameters/parameter.h"
#include "layers/conversion/convert_checkpoint.h"
#include "layers/conversion/grouped_query_conversion.h"
#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using testing::at;
using testing::bitwise_equal;
using ::testing::Each;
using testing::error_of;
using ::testing::HasSubstr;
using testing::random_tensor;
using testing::read_file;
using testing::relative_error;
using testing::TemporaryFolder;
using testing::write_file;

constexpr std::int64_t kHeads = 12, kHeadDim = 5, kHidden = 7;
const std::string kWeight = "model.layers.3.self_attn.k_proj.weight";
const std::string kValueWeight = "model.layers.3.self_attn.v_proj.weight";
const std::string kBias = "model.layers.3.self_attn.v_proj.bias";

KeyValuePooling pooling(std::int64_t from, std::int64_t to,
                        PoolingMethod method = PoolingMethod::kMean) {
  return {from, to, kHeadDim, method, 77, 0.02};
}

std::int64_t element(const Tensor& x, std::int64_t row, std::int64_t col) {
  return x.shape().rank() == 1 ? row : row * x.cols() + col;
}

TEST(Pooling, AsManyGroupsAsBeforeIsTheIdentity) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    Tensor weight = random_tensor({kHeads * kHeadDim, kHidden}, dtype, "w");
    if (dtype == DType::kF32) weight.data<float>()[3] = -0.0F;
    for (const PoolingMethod method : {PoolingMethod::kMean, PoolingMethod::kFirst}) {
      EXPECT_TRUE(
          bitwise_equal(pool_key_values(kWeight, weight, pooling(kHeads, kHeads, method)), weight));
    }
  }
}

TEST(Pooling, EqualHeadsLoseNothing) {
  for (const std::int64_t groups : {1, 2, 3, 4, 6}) {
    const Tensor heads = random_tensor({groups * kHeadDim, kHidden}, DType::kF32, "heads");
    const std::int64_t members = kHeads / groups;
    Tensor repeated = Tensor::empty({kHeads * kHeadDim, kHidden}, DType::kF32);
    for (std::int64_t head = 0; head < kHeads; ++head) {
      const std::int64_t group = head / members;
      repeated.row_slice(head * kHeadDim, (head + 1) * kHeadDim)
          .copy_from(heads.row_slice(group * kHeadDim, (group + 1) * kHeadDim));
    }
    EXPECT_LE(relative_error(pool_key_values(kWeight, repeated, pooling(kHeads, groups)), heads),
              1e-6);
  }
}

// Every divisor, for weights and biases, against the definition evaluated in the stated order.
TEST(Pooling, MeanAndFirstFollowTheirDefinition) {
  for (const Shape& shape : {Shape{kHeads * kHeadDim, kHidden}, Shape{kHeads * kHeadDim}}) {
    const std::string& name = shape.rank() == 1 ? kBias : kWeight;
    const Tensor source = random_tensor(shape, DType::kF32, "source", 1e3);
    for (const std::int64_t groups : {1, 2, 3, 4, 6, 12}) {
      const std::int64_t members = kHeads / groups;
      const Tensor mean = pool_key_values(name, source, pooling(kHeads, groups));
      const Tensor first =
          pool_key_values(name, source, pooling(kHeads, groups, PoolingMethod::kFirst));
      ASSERT_EQ(mean.shape()[0], groups * kHeadDim);
      for (std::int64_t row = 0; row < groups * kHeadDim; ++row) {
        for (std::int64_t col = 0; col < (shape.rank() == 1 ? 1 : kHidden); ++col) {
          const auto member = [&](std::int64_t s) {
            const std::int64_t head = row / kHeadDim * members + s;
            return source.data<float>()[element(source, head * kHeadDim + row % kHeadDim, col)];
          };
          float sum = member(0);
          for (std::int64_t s = 1; s < members; ++s) sum += member(s);
          EXPECT_EQ(mean.data<float>()[element(mean, row, col)], sum / static_cast<float>(members));
          EXPECT_EQ(first.data<float>()[element(first, row, col)], member(0));
        }
      }
    }
  }
}

TEST(Pooling, TheOrderOfTheSumIsTheMembers) {
  // In f32, (1e8 + 1) - 1e8 is 0 and (1e8 - 1e8) + 1 is 1.
  Tensor source = Tensor::zeros({3, 1}, DType::kF32);
  const KeyValuePooling all{3, 1, 1, PoolingMethod::kMean, 0, 0};
  const auto mean_of = [&](float a, float b, float c) {
    source.data<float>()[0] = a;
    source.data<float>()[1] = b;
    source.data<float>()[2] = c;
    return pool_key_values(kWeight, source, all).data<float>()[0];
  };
  EXPECT_EQ(mean_of(1e8F, 1.0F, -1e8F), 0.0F);
  EXPECT_EQ(mean_of(1e8F, -1e8F, 1.0F), 1.0F / 3.0F);
}

TEST(Pooling, BfloatIsSummedInFloatAndRoundedOnce) {
  // 1 + 2^-7 and its neighbours have no exact mean in bf16: summing in bf16 would lose a bit.
  Tensor source = Tensor::empty({4, 1}, DType::kBf16);
  const std::uint16_t members[] = {0x3F80, 0x3F81, 0x3F81, 0x3F81};
  std::memcpy(source.raw(), members, sizeof(members));
  const Tensor mean = pool_key_values(kWeight, source, {4, 1, 1, PoolingMethod::kMean, 0, 0});
  ASSERT_EQ(mean.dtype(), DType::kBf16);
  std::uint16_t bits = 0;
  std::memcpy(&bits, mean.raw(), 2);
  EXPECT_EQ(bits, 0x3F81);
}

TEST(Pooling, RandomIsTheInitializationOfTheSmallerModel) {
  const KeyValuePooling random = pooling(kHeads, 3, PoolingMethod::kRandom);
  const Tensor source = random_tensor({kHeads * kHeadDim, kHidden}, DType::kF32, "any");
  const Tensor other = random_tensor({kHeads * kHeadDim, kHidden}, DType::kF32, "other");
  const Tensor value = pool_key_values("model.layers.1.self_attn.v_proj.weight", other, random);
  const Tensor key = pool_key_values(kWeight, source, random);
  EXPECT_TRUE(bitwise_equal(key, pool_key_values(kWeight, other, random)))
      << "neither the source nor the order of calls matters";
  EXPECT_FALSE(bitwise_equal(key, value)) << "the name does";

  const Parameter fresh =
      replicated_parameter(kWeight, key.shape(), 0, {Initialization::Kind::kNormal, 0.02});
  EXPECT_TRUE(bitwise_equal(key, initial_value(fresh, 77, DType::kF32)));

  const Tensor bias = random_tensor({kHeads * kHeadDim}, DType::kF32, "bias");
  EXPECT_EQ(testing::max_abs(pool_key_values(kBias, bias, random)), 0) << "biases begin at zero";
}

TEST(Pooling, OnlyProjectionsOfKeysAndValuesAreTouched) {
  EXPECT_TRUE(is_key_or_value_projection(kWeight));
  EXPECT_TRUE(is_key_or_value_projection(kBias));
  for (const std::string name :
       {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.k_norm.weight", "model.embed_tokens.weight",
        "model.layers.0.self_attn.kv_b_proj.weight"}) {
    EXPECT_FALSE(is_key_or_value_projection(name)) << name;
  }
  EXPECT_THAT(error_of([] {
                pool_key_values(kWeight, Tensor::zeros({6, 2}, DType::kF32), pooling(4, 2));
              }),
              AllOf(HasSubstr(kWeight), HasSubstr("shape (6, 2); 4 groups of 5 dimensions")));
}

TEST(Pooling, IsPlannedFromTheModel) {
  ModelConfig config;
  config.hidden_size = 60;
  config.num_attention_heads = 12;
  config.init_method_std = 0.03;
  const KeyValuePooling plan = plan_pooling(config, 4, PoolingMethod::kRandom, 5);
  EXPECT_EQ(plan.source_groups, 12);
  EXPECT_EQ(plan.target_groups, 4);
  EXPECT_EQ(plan.head_dim, 5);
  EXPECT_EQ(plan.standard_deviation, 0.03);
  EXPECT_EQ(plan.seed, 5U);
  const auto error_with = [&](std::int64_t groups) {
    return error_of([&] { plan_pooling(config, groups, PoolingMethod::kMean, 0); });
  };
  EXPECT_THAT(error_with(5), HasSubstr("12 groups cannot be pooled into 5"));
  EXPECT_THAT(error_with(0), HasSubstr("12 groups cannot be pooled into 0"));
  EXPECT_THAT(error_with(24), HasSubstr("--groups must divide 12: use 1, 2, 3, 4, 6 or 12"));
  config.num_query_groups = 4;
  EXPECT_THAT(error_with(3), HasSubstr("4 groups cannot be pooled into 3"));
  EXPECT_EQ(error_with(2), "no error");
  config.kv_lora_rank = 8;
  EXPECT_THAT(error_with(2), HasSubstr("multi-head latent attention"));
}

class ConvertCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(source() / "optimizer");
    write_file(folder_ / "tokenizer.model", "pieces");
    state_.step = 600;
    state_.samples = 19200;
    state_.config = "heads: 12\n";
    state_.files = {write_durably(source(), "config.json", "{}"),
                    copy_durably(folder_ / "tokenizer.model", source(), "tokenizer.model")};
    for (const std::string stem : {"model", "optimizer/exp_avg", "optimizer/exp_avg_sq"}) {
      // Moments in several shards, to see that those are found.
      SafetensorsWriter writer(source(), stem,
                               {{"model.embed_tokens.weight", DType::kF32, {9, kHidden}},
                                {kWeight, DType::kF32, {kHeads * kHeadDim, kHidden}},
                                {kValueWeight, DType::kF32, {kHeads * kHeadDim, kHidden}},
                                {kBias, DType::kF32, {kHeads * kHeadDim}},
                                {"model.layers.3.self_attn.k_norm.weight", DType::kF32, {5}}},
                               stem == "optimizer/exp_avg" ? 100 : 1'000'000);
      for (const TensorInfo& info : writer.tensors()) {
        writer.write(random_tensor(info.shape, info.dtype, stem + info.name));
      }
      for (const FileRecord& file : writer.finish()) state_.files.push_back(file);
    }
    write_durably(source(), "trainer.json", to_json(state_));
  }

  fs::path source() const { return folder_ / "mha"; }
  void convert(const fs::path& destination) {
    ModelConfig config;
    config.num_attention_heads = kHeads;
    config.kv_channels = kHeadDim;
    config.hidden_size = kHidden;
    GroupedQueryConversion conversion(config, pooling(kHeads, 4), nullptr);
    convert_checkpoint(
        {source(), {}, {"tokenizer.model"}, state_}, destination, &conversion,
        {"groups: 4\n", "{\"num_key_value_heads\": 4}", {}, "GQA with 4 groups, mean"});
  }

  TemporaryFolder folder_;
  TrainerState state_;
};

TEST_F(ConvertCheckpoint, PoolsWhatItMustAndCopiesTheRest) {
  convert(folder_ / "runs/gqa");
  const TrainerState converted = verify_checkpoint(folder_ / "runs/gqa");
  EXPECT_EQ(converted.step, 600);
  EXPECT_EQ(converted.samples, 19200);
  EXPECT_EQ(converted.config, "groups: 4\n");
  ASSERT_TRUE(converted.parent);
  EXPECT_EQ(converted.parent->path, source().string());
  EXPECT_EQ(converted.parent->step, 600);
  EXPECT_EQ(converted.parent->method, "GQA with 4 groups, mean");
  const std::string parent = read_file(source() / "trainer.json");
  EXPECT_EQ(converted.parent->hash, content_hash(std::as_bytes(std::span(parent))));
  EXPECT_EQ(read_file(folder_ / "runs/gqa/tokenizer.model"), "pieces");
  EXPECT_THAT(read_file(folder_ / "runs/gqa/config.json"), HasSubstr("num_key_value_heads"));

  for (const std::string stem : {"model", "optimizer/exp_avg", "optimizer/exp_avg_sq"}) {
    const SafetensorsReader before(source(), stem), after(folder_ / "runs/gqa", stem);
    for (const std::string name :
         {"model.embed_tokens.weight", "model.layers.3.self_attn.k_norm.weight"}) {
      EXPECT_TRUE(bitwise_equal(before.read(name), after.read(name))) << stem << " " << name;
    }
    for (const std::string& name : {kWeight, kValueWeight, kBias}) {
      const Tensor pooled = after.read(name);
      EXPECT_EQ(pooled.shape()[0], 4 * kHeadDim);
      if (stem == "model") {
        EXPECT_TRUE(
            bitwise_equal(pooled, pool_key_values(name, before.read(name), pooling(kHeads, 4))));
      } else {
        EXPECT_EQ(testing::max_abs(pooled), 0) << stem << " " << name;
      }
    }
  }
}

// A run in bf16 keeps f32 masters: they are weights, no moments, and the exacter ones.
TEST_F(ConvertCheckpoint, PoolsTheMastersAndRoundsTheModelOnce) {
  const std::vector<TensorInfo> infos = {{"model.embed_tokens.weight", DType::kF32, {9, kHidden}},
                                         {kWeight, DType::kF32, {kHeads * kHeadDim, kHidden}},
                                         {kValueWeight, DType::kF32, {kHeads * kHeadDim, kHidden}}};
  const auto write = [&](const std::string& stem, DType dtype, auto&& value) {
    std::vector<TensorInfo> stored = infos;
    for (TensorInfo& info : stored) info.dtype = dtype;
    std::erase_if(state_.files,
                  [&](const FileRecord& file) { return file.name == stem + ".safetensors"; });
    fs::remove(source() / (stem + ".safetensors"));
    SafetensorsWriter writer(source(), stem, stored);
    for (const TensorInfo& info : writer.tensors()) writer.write(value(info));
    for (const FileRecord& file : writer.finish()) state_.files.push_back(file);
  };
  const auto master_of = [&](const TensorInfo& info) {
    return random_tensor(info.shape, DType::kF32, "master" + info.name);
  };
  write("optimizer/master", DType::kF32, master_of);
  write("model", DType::kBf16,
        [&](const TensorInfo& info) { return converted(master_of(info), DType::kBf16); });
  convert(folder_ / "gqa");

  const SafetensorsReader model(folder_ / "gqa", "model"),
      masters(folder_ / "gqa", "optimizer/master");
  const Tensor pooled = pool_key_values(kWeight, master_of(infos[1]), pooling(kHeads, 4));
  EXPECT_TRUE(bitwise_equal(masters.read(kWeight), pooled));
  EXPECT_TRUE(bitwise_equal(model.read(kWeight), converted(pooled, DType::kBf16)));
  const std::string embedding = "model.embed_tokens.weight";
  EXPECT_TRUE(bitwise_equal(masters.read(embedding), master_of(infos[0])));
  EXPECT_TRUE(bitwise_equal(model.read(embedding), converted(master_of(infos[0]), DType::kBf16)));
}

TEST_F(ConvertCheckpoint, NeverTouchesAnExistingFolder) {
  convert(folder_ / "gqa");
  const std::string before = read_file(folder_ / "gqa/trainer.json");
  EXPECT_THAT(error_of([&] { convert(folder_ / "gqa"); }),
              AllOf(HasSubstr("gqa exists already"), HasSubstr("--out")));
  EXPECT_EQ(read_file(folder_ / "gqa/trainer.json"), before);
}

TEST_F(ConvertCheckpoint, AFailureLeavesNothingBehind) {
  fs::remove(source() / "tokenizer.model");
  EXPECT_THAT(error_of([&] { convert(folder_ / "gqa"); }), HasSubstr("tokenizer.model"));
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_.path())) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("mha", "tokenizer.model"));
}

}  // namespace
}  // namespace polyhead
