// What a conversion does to a model's losses.
#include <gtest/gtest.h>

#include "layers/conversion/grouped_query.h"
#include "tests/support/variants.h"
#include "tests/support/whole_model.h"

namespace polyhead {
namespace {

using testing::WholeModel;

// Gives the heads that will share a group the first one's keys and values.
void equalize_heads(WholeModel& parent, std::int64_t members) {
  const std::int64_t head_dim = parent.model.config().head_dim();
  for (Parameter* parameter : parent.model.parameters()) {
    if (!is_key_or_value_projection(parameter->name)) continue;
    for (std::int64_t head = 0; head < parent.model.config().groups(); ++head) {
      const std::int64_t first = head / members * members;
      parameter->value.row_slice(head * head_dim, (head + 1) * head_dim)
          .copy_from(parameter->value.row_slice(first * head_dim, (first + 1) * head_dim));
    }
  }
}

void convert(WholeModel& parent, const KeyValuePooling& plan, WholeModel& child) {
  const std::vector<Parameter*> from = parent.model.parameters(), to = child.model.parameters();
  ASSERT_EQ(from.size(), to.size());
  for (std::size_t i = 0; i < to.size(); ++i) {
    ASSERT_EQ(from[i]->name, to[i]->name);
    to[i]->value.copy_from(is_key_or_value_projection(to[i]->name)
                               ? pool_key_values(to[i]->name, from[i]->value, plan)
                               : from[i]->value);
  }
}

TEST(Conversion, AModelOfEqualHeadsLosesNothing) {
  for (const bool extras : {false, true}) {
    ModelConfig config = testing::small_config();
    config.num_attention_heads = 12;  // means of 3, 6 and 12 heads, so that division rounds
    config.add_qkv_bias = extras;
    config.qk_norm = extras;
    for (const std::int64_t groups : {1, 2, 4}) {
      WholeModel parent(config);
      parent.randomize_vectors();
      equalize_heads(parent, 12 / groups);
      ModelConfig converted = config;
      converted.num_query_groups = groups;
      WholeModel child(converted);
      convert(parent, plan_pooling(config, groups, PoolingMethod::kMean, 0), child);
      EXPECT_LE(testing::relative_error(child.losses(), parent.losses()), 1e-6)
          << groups << " groups, biases and norms: " << extras;
    }
  }
}

}  // namespace
}  // namespace polyhead
