#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "framework/checkpoint/checkpoint.h"
#include "framework/comm/thread_communicator.h"
#include "tests/support/compare.h"
#include "tests/support/sharded_toy.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

using testing::bitwise_equal;
using testing::error_of;
using ::testing::HasSubstr;
using testing::ShardedToy;
using testing::TemporaryFolder;

const std::string kAttention = "model.layers.0.self_attn.";

// Keys then queries packed and transposed, the output's last rows in pairs, everything under a
// prefix that may be left out.
TensorLayout toy_layout() {
  TensorLayout layout;
  layout.optional_prefix = "other.";
  layout.tensors = {{.name = "other.packed",
                     .parts = {{kAttention + "k_proj.weight", ShardedToy::kKeys},
                               {kAttention + "q_proj.weight", ShardedToy::kQueries}},
                     .rows = {},
                     .transposed = true},
                    {.name = "other.paired",
                     .parts = {{kAttention + "o_proj.weight", ShardedToy::kHidden}},
                     .rows = {6, 4},
                     .transposed = false}};
  return layout;
}

CheckpointDescription description_with(const TensorLayout& layout) {
  CheckpointDescription description;
  description.trainer.config = "model: {num_layers: 1}\n";
  description.config_json = "{}\n";
  description.layout = layout;
  return description;
}

fs::path save_toy(const fs::path& run, int ranks, const TensorLayout& layout) {
  run_on_threads(ranks, [&](const Communicator& world) {
    ShardedToy toy(world.rank(), ranks);
    toy.fill(toy.store().values(), 3);
    const auto tensor = world.split(0);
    save_checkpoint(run, world, *tensor, toy.store(), {}, description_with(layout));
  });
  return run / checkpoint_name(0);
}

bool loads_at(int ranks, const fs::path& folder, const TensorLayout& layout) {
  bool equal = true;
  run_on_threads(ranks, [&](const Communicator& world) {
    ShardedToy want(world.rank(), ranks), got(world.rank(), ranks);
    want.fill(want.store().values(), 3);
    load_checkpoint(folder, world, got.store(), {}, layout);
    if (!bitwise_equal(want.store().values(), got.store().values())) equal = false;
  });
  return equal;
}

TEST(TensorLayout, AnyNumberOfRanksReadsAnyOther) {
  for (const int saved : {1, 2, 4}) {
    const TemporaryFolder run;
    const fs::path folder = save_toy(run.path(), saved, toy_layout());
    for (const int loaded : {1, 2, 4}) {
      EXPECT_TRUE(loads_at(loaded, folder, toy_layout())) << saved << " to " << loaded;
    }
  }
}

TEST(TensorLayout, FilesHoldWhatItSays) {
  const TemporaryFolder run;
  const SafetensorsReader file(save_toy(run.path(), 2, toy_layout()), "model");
  ShardedToy toy(0, 1);
  toy.fill(toy.store().values(), 3);
  const auto value_of = [&](const std::string& name) {
    return std::ranges::find_if(
               toy.store().segments(),
               [&](const Segment& segment) { return segment.parameter->name == kAttention + name; })
        ->parameter->value;
  };
  const Tensor packed = file.read("other.packed");
  ASSERT_EQ(packed.shape(), Shape({ShardedToy::kHidden, ShardedToy::kKeys + ShardedToy::kQueries}));
  const Tensor keys = value_of("k_proj.weight"), queries = value_of("q_proj.weight");
  const auto at = [](const Tensor& matrix, std::int64_t row, std::int64_t col) {
    return matrix.data<float>()[row * matrix.row_stride() + col];
  };
  EXPECT_EQ(at(packed, 5, 3), at(keys, 3, 5));
  EXPECT_EQ(at(packed, 5, 4), at(queries, 0, 5));
  EXPECT_EQ(at(packed, 2, 11), at(queries, 7, 2));
  const Tensor paired = file.read("other.paired"), output = value_of("o_proj.weight");
  constexpr std::int64_t kOrder[] = {0, 1, 2, 4, 3, 5};
  for (std::int64_t row = 0; row < 6; ++row) {
    EXPECT_EQ(at(paired, row, 2), at(output, kOrder[row], 2));
  }
  EXPECT_FALSE(file.contains(kAttention + "q_proj.weight"));
  EXPECT_TRUE(file.contains(kAttention + "k_proj.bias")) << "what is not packed keeps its name";
}

// Writes the toy's file again under other names, with one tensor added.
void rewrite(const fs::path& from, const fs::path& to, std::string_view prefix,
             const std::string& added, const Tensor& tensor) {
  const SafetensorsReader source(from, "model");
  std::vector<TensorInfo> infos = source.tensors();
  const auto renamed = [&](std::string name) {
    return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
  };
  for (TensorInfo& info : infos) info.name = renamed(info.name);
  if (!added.empty()) infos.push_back({added, tensor.dtype(), tensor.shape()});
  SafetensorsWriter writer(to, "model", infos);
  for (const TensorInfo& info : writer.tensors()) {
    if (info.name == added) {
      writer.write(tensor);
      continue;
    }
    for (const std::string& name : source.names()) {
      if (renamed(name) == info.name) writer.write(source.read(name));
    }
  }
  writer.finish();
}

TEST(TensorLayout, OtherNamesBuffersAndCopies) {
  const TemporaryFolder run;
  const fs::path folder = save_toy(run.path(), 1, toy_layout());
  TensorLayout layout = toy_layout();
  const Tensor embedding = SafetensorsReader(folder, "model").read("model.embed_tokens.weight");
  const auto load_error = [&](const std::string& prefix, const std::string& added,
                              const Tensor& tensor) {
    const TemporaryFolder other;
    rewrite(folder, other.path(), prefix, added, tensor);
    return error_of([&] {
      ShardedToy want(0, 1), got(0, 1);
      want.fill(want.store().values(), 3);
      load_parameters(other.path(), got.store(), layout);
      EXPECT_TRUE(bitwise_equal(want.store().values(), got.store().values()));
    });
  };
  EXPECT_EQ(load_error("other.", "", {}), "no error");
  EXPECT_EQ(load_error("", "", {}), "no error");
  EXPECT_THAT(load_error("other.", "mask", Tensor::zeros({3}, DType::kF32)),
              HasSubstr("mask is not a parameter"));
  layout.ignored = {"other.mask"};
  EXPECT_EQ(load_error("other.", "mask", Tensor::zeros({3}, DType::kF32)), "no error");
  EXPECT_THAT(load_error("", "head", embedding), HasSubstr("head is not a parameter"));
  layout.copies = {{"head", "model.embed_tokens.weight"}};
  EXPECT_EQ(load_error("", "head", embedding), "no error");
  EXPECT_THAT(load_error("", "head", Tensor::zeros_like(embedding)),
              HasSubstr("head differs from model.embed_tokens.weight"));
  layout.tensors[1].parts[0].rows = 7;
  EXPECT_THAT(load_error("", "", {}),
              HasSubstr("other.paired has shape (6, 8), this model needs 7 entries"));
}

}  // namespace
}  // namespace polyhead
