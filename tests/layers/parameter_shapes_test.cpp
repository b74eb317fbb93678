#include "layers/parameter_shapes.h"

#include <gtest/gtest.h>

#include "framework/comm/thread_communicator.h"
#include "layers/model.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

class ParameterShapesTest : public ::testing::TestWithParam<testing::Variant> {};

TEST_P(ParameterShapesTest, AreThoseOfTheFirstRank) {
  const ModelConfig& config = GetParam().config;
  for (const int ranks : {1, 2, 4}) {
    const std::vector<ParameterShape> shapes = parameter_shapes(config, ranks);
    run_on_threads(ranks, [&](const Communicator& world) {
      TensorParallel parallel(world, /*sequence_parallel=*/false);
      Model model(config, 8, parallel, DType::kF32);
      const std::vector<Parameter*> parameters = model.parameters();
      if (world.rank() != 0) return;
      ASSERT_EQ(parameters.size(), shapes.size());
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        EXPECT_EQ(shapes[i].name, parameters[i]->name);
        EXPECT_EQ(shapes[i].global, parameters[i]->global_shape);
        EXPECT_EQ(shapes[i].local, parameters[i]->local_shape);
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, ParameterShapesTest,
                         ::testing::ValuesIn(testing::all_variants()),
                         [](const auto& variant) { return variant.param.name; });

TEST(CountParameters, AddsUpByPart) {
  ModelConfig config = testing::small_config();  // 2 layers, D 20, F 28, 8 heads of 6, V 37
  config.num_query_groups = 2;
  const std::vector<ParameterShape> shapes = parameter_shapes(config, 4);
  EXPECT_EQ(count_parameters(shapes, ModelPart::kEmbedding), 37 * 20);
  EXPECT_EQ(count_parameters(shapes, ModelPart::kAttention), 2 * 20 * 6 * (2 * 8 + 2 * 2));
  EXPECT_EQ(count_parameters(shapes, ModelPart::kMlp), 2 * 3 * 20 * 28);
  EXPECT_EQ(count_parameters(shapes, ModelPart::kNorms), (2 * 2 + 1) * 20);
  EXPECT_EQ(count_parameters(shapes, ModelPart::kHead), 37 * 20);
  EXPECT_EQ(count_parameters(shapes), 1480 + 4800 + 3360 + 100);
}

TEST(CountParameters, LatentAttention) {
  ModelConfig config = testing::small_latent_config();
  config.q_lora_rank = 11;
  // h r_q + r_q H (d_n + d_r) + h (r_kv + d_r) + r_kv H (d_n + d_v) + H d_v h + r_q + r_kv
  const std::int64_t layer =
      20 * 11 + 11 * 8 * (5 + 4) + 20 * (9 + 4) + 9 * 8 * (5 + 7) + 8 * 7 * 20 + 11 + 9;
  EXPECT_EQ(count_parameters(parameter_shapes(config, 2), ModelPart::kAttention), 2 * layer);
}

}  // namespace
}  // namespace polyhead
