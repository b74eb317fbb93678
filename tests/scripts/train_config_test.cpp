#include "scripts/train_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kSmall = R"(model:
  num_layers: 2
  hidden_size: 64
  ffn_hidden_size: 96
  num_attention_heads: 8
  num_query_groups: 2
  vocab_size: 257
data:
  train: [text/a, {path: text/b, weight: 0.5}]
  validation: [text/c]
  sequence_length: 32
optimizer:
  learning_rate: 1.0e-3
training:
  train_steps: 10
  global_batch_size: 8
  micro_batch_size: 2
checkpoint:
  folder: runs/small
)";

class TrainConfigTest : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& text) const {
    testing::write_file(folder_ / "c.yaml", text);
    return folder_ / "c.yaml";
  }
  TrainConfig load(const std::string& text, const std::vector<std::string>& overrides = {},
                   std::optional<int> world_size = 1) const {
    return load_train_config(write(text), overrides, world_size);
  }
  // What loading the small configuration with `from` replaced by `to` complains of.
  std::string problem(const std::string& from, const std::string& to,
                      const std::vector<std::string>& overrides = {}, int world_size = 1) const {
    std::string text = kSmall;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return problem_of(text.replace(at, from.size(), to), overrides, world_size);
  }
  std::string problem_of(const std::string& text, const std::vector<std::string>& overrides = {},
                         int world_size = 1) const {
    return testing::error_of([&] { load(text, overrides, world_size); });
  }
  // What a broken rule says, set through an override.
  std::string override_problem(const std::string& assignment, int world_size = 1) const {
    return problem_of(kSmall, {assignment}, world_size);
  }

  testing::TemporaryFolder folder_;
};

TEST_F(TrainConfigTest, ReadsValuesAndKeepsDefaults) {
  const TrainConfig config = load(kSmall);
  EXPECT_EQ(config.model.num_query_groups, 2);
  EXPECT_EQ(config.model.kv_channels, 8);
  EXPECT_EQ(config.data.train[1].path, "text/b");
  EXPECT_EQ(config.data.train[1].weight, 0.5);
  EXPECT_EQ(config.optimizer.min_learning_rate, 1.0e-4);
  EXPECT_EQ(config.optimizer.decay_steps, 10);
  EXPECT_EQ(config.training.seed, 1234);
  EXPECT_EQ(config.checkpoint.keep_last, 2);
  EXPECT_THAT(train_config_warnings(config), IsEmpty());
}

TEST_F(TrainConfigTest, ResolvedTextReadsBackTheSame) {
  const TrainConfig config =
      load(kSmall, {"model.window_size=7", "model.window_pattern=[1, 0]", "model.softmax_scale=0.1",
                    "optimizer.learning_rate=0.0030000000000000001", "model.activation=geglu",
                    "data.tokenizer=\"a \\\"b\\\\\\n\"", "training.device=cpu"});
  const std::string text = to_yaml(config);
  const TrainConfig again = parse_resolved_config(text, "trainer.json");
  EXPECT_EQ(to_yaml(again), text);
  EXPECT_EQ(again.data.tokenizer, "a \"b\\\n");
  EXPECT_EQ(again.model.window_pattern->layers, (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(to_yaml(load(text)), text);
}

TEST_F(TrainConfigTest, ResolvedTextMustBeComplete) {
  const auto problem_of_resolved = [&](const std::string& from, const std::string& to) {
    std::string text = to_yaml(load(kSmall));
    text.replace(text.find(from), from.size(), to);
    return testing::error_of([&] { parse_resolved_config(text, "trainer.json"); });
  };
  EXPECT_THAT(problem_of_resolved("  seed: 1234\n", ""),
              AllOf(HasSubstr("trainer.json"), HasSubstr("training.seed: missing")));
  // An earlier version did not know it.
  EXPECT_EQ(problem_of_resolved("  rotary_segments: null\n", ""), "no error");
  EXPECT_THAT(
      problem_of_resolved("learning_rate: 0.001", "lr: 0.001"),
      AllOf(HasSubstr("optimizer.learning_rate: missing"), HasSubstr("optimizer.lr: unknown key")));
}

TEST_F(TrainConfigTest, ReportsAllProblemsWithTheirPlaces) {
  std::string text = kSmall;
  text.replace(text.find("num_layers: 2"), 13, "num_layers: two");
  text.replace(text.find("num_query_groups: 2"), 19, "num_querry_groups: 3");
  text.replace(text.find("micro_batch_size: 2"), 19, "micro_batch_size: 0");
  const std::string path = (folder_ / "c.yaml").string();
  EXPECT_EQ(problem_of(text),
            "3 problems in the configuration:\n" + path +
                ":2:15: model.num_layers: got two; must be an integer in decimal digits, such as "
                "1024\n" +
                path +
                ":6:3: model.num_querry_groups: unknown key; did you mean num_query_groups?\n" +
                path + ":17:21: training.micro_batch_size: got 0; must lie in 1 to 16777216");
}

TEST_F(TrainConfigTest, ProblemsAreThoseOfAConfiguration) {
  EXPECT_THROW(load(kSmall, {"training.seed=-1"}), ConfigurationError);
  EXPECT_THROW(load(kSmall, {"training.seed=-1", "training.sead=1"}), ConfigurationError);
  EXPECT_THROW(load_train_config("absent.yaml", {}, 1), ConfigurationError);
}

TEST_F(TrainConfigTest, Aliases) {
  std::string text = kSmall;
  text.replace(text.find("sequence_length"), 15, "seq_length");
  EXPECT_EQ(load(text).data.sequence_length, 32);
  EXPECT_EQ(load(text, {"data.sequence_length=16"}).data.sequence_length, 16);
  EXPECT_EQ(load(kSmall, {"optimizer.lr=2"}).optimizer.learning_rate, 2);
  EXPECT_EQ(load(kSmall, {"model.qk_layernorm=true"}).model.qk_norm, true);
  EXPECT_THAT(problem("  sequence_length: 32", "  sequence_length: 32\n  seq_length: 32"),
              AllOf(HasSubstr("c.yaml:12:3: data.seq_length"),
                    HasSubstr("another spelling of sequence_length, given in line 11")));
}

TEST_F(TrainConfigTest, KeysOfOthersAreNamed) {
  EXPECT_THAT(override_problem("parallel.pipeline_model_parallel_size=2"),
              AllOf(HasSubstr("parallel.pipeline_model_parallel_size: got 2"),
                    HasSubstr("not supported"), HasSubstr("leave it at 1")));
  EXPECT_THAT(override_problem("parallel.pipeline_model_parallel_size=1"), "no error");
  EXPECT_THAT(override_problem("parallel.context_parallel_size=4"), HasSubstr("not supported"));
  EXPECT_THAT(override_problem("parallel.expert_model_parallel_size=4"),
              HasSubstr("not supported"));
  EXPECT_THAT(override_problem("model.hidden_dropout=0.1"), HasSubstr("dropout is not built"));
  EXPECT_THAT(override_problem("model.hidden_dropout=0.0"), "no error");
  EXPECT_THAT(override_problem("model.attention_dropout=0.1"), HasSubstr("dropout is not built"));
  EXPECT_THAT(override_problem("model.num_experts=8"), HasSubstr("mixtures of experts"));
  EXPECT_THAT(override_problem("model.multi_latent_attention=true"), HasSubstr("kv_lora_rank"));
}

TEST_F(TrainConfigTest, Overrides) {
  EXPECT_EQ(load(kSmall, {"training.train_steps=99"}).training.train_steps, 99);
  EXPECT_EQ(load(kSmall, {"parallel.sequence_parallel=true"}).parallel.sequence_parallel, true);
  EXPECT_EQ(load(kSmall, {"data.train=[x]"}).data.train[0].path, "x");
  EXPECT_EQ(load(kSmall, {"training.seed=1", "training.seed=2"}).training.seed, 2);
  EXPECT_EQ(load(kSmall, {"model.num_query_groups=null"}).model.num_query_groups, 8);
  EXPECT_EQ(override_problem("training.train_steps=many"),
            "--set training.train_steps=many: training.train_steps: got many; must be an integer "
            "in decimal digits, such as 1024");
  EXPECT_THAT(override_problem("model.num_query_groups=3"),
              AllOf(HasSubstr("--set model.num_query_groups=3: model.num_query_groups: got 3"),
                    HasSubstr("must divide num_attention_heads (8)")));
  EXPECT_THAT(override_problem("training.stepz=1"), HasSubstr("unknown key"));
  EXPECT_THAT(override_problem("train_steps=1"), HasSubstr("must read section.key=value"));
  EXPECT_THAT(override_problem("training.train_steps"), HasSubstr("must read section.key=value"));
  EXPECT_THAT(override_problem("trainin.train_steps=1"),
              AllOf(HasSubstr("trainin: unknown key"), HasSubstr("did you mean training?")));
  EXPECT_THAT(override_problem("data.train=[x"), HasSubstr("--set data.train=[x: data.train"));
}

TEST_F(TrainConfigTest, MissingAndMisplacedKeys) {
  EXPECT_THAT(problem("  learning_rate: 1.0e-3", "  {}"),
              HasSubstr("optimizer.learning_rate: missing"));
  EXPECT_THAT(problem("  num_layers: 2\n", ""), HasSubstr("model.num_layers: missing"));
  EXPECT_THAT(problem("checkpoint:\n  folder: runs/small\n", ""),
              HasSubstr("checkpoint.folder: missing"));
  EXPECT_THAT(problem("  num_layers: 2\n", "  num_layers: 2\n  learning_rate: 1\n"),
              HasSubstr("model.learning_rate: unknown key; it belongs to section optimizer"));
  EXPECT_THAT(
      problem("model:", "modle:"),
      AllOf(HasSubstr("modle: unknown key; did you mean model?"), HasSubstr("model: missing")));
  EXPECT_THAT(problem("  seq", "  split: \n  seq"), HasSubstr("data.split: got no value"));
}

TEST_F(TrainConfigTest, SectionRules) {
  EXPECT_THAT(override_problem("optimizer.learning_rate=0"), HasSubstr("greater than 0"));
  EXPECT_THAT(override_problem("optimizer.min_learning_rate=1"),
              HasSubstr("must lie in 0 to learning_rate (0.001)"));
  EXPECT_THAT(override_problem("optimizer.weight_decay=-1"), HasSubstr("must not be negative"));
  EXPECT_THAT(override_problem("optimizer.adam_beta1=1"), HasSubstr("less than 1"));
  EXPECT_THAT(override_problem("optimizer.adam_beta2=-0.1"), HasSubstr("less than 1"));
  EXPECT_THAT(override_problem("optimizer.adam_epsilon=0"), HasSubstr("greater than 0"));
  EXPECT_THAT(override_problem("optimizer.clip_grad_norm=-1"), HasSubstr("0 is off"));
  EXPECT_THAT(override_problem("optimizer.moments_dtype=fp16"), HasSubstr("one of fp32, bf16"));
  EXPECT_THAT(override_problem("optimizer.moments_dtype=bf16"), "no error");
  EXPECT_THAT(override_problem("optimizer.warmup_steps=-1"), HasSubstr("must lie in 0"));
  EXPECT_THAT(override_problem("optimizer.warmup_steps=10"),
              HasSubstr("must be less than decay_steps (10)"));
  EXPECT_THAT(override_problem("optimizer.decay_steps=0"), HasSubstr("must lie in 1"));
  EXPECT_THAT(override_problem("optimizer.wsd_decay_steps=2"), HasSubstr("only schedule wsd"));
  EXPECT_THAT(override_problem("optimizer.schedule=wsd"),
              HasSubstr("optimizer.wsd_decay_steps: missing"));
  EXPECT_THAT(problem_of(kSmall, {"optimizer.schedule=wsd", "optimizer.wsd_decay_steps=11"}),
              HasSubstr("must fit between warmup_steps (0) and decay_steps (10)"));
  EXPECT_THAT(problem_of(kSmall, {"optimizer.schedule=constant", "optimizer.decay_steps=5"}),
              HasSubstr("schedule constant never decays"));
  EXPECT_THAT(problem_of(kSmall, {"optimizer.schedule=constant", "optimizer.min_lr=1e-5"}),
              HasSubstr("schedule constant never decays"));
  EXPECT_THAT(override_problem("optimizer.schedule=cosin"),
              AllOf(HasSubstr("must be one of constant, linear, cosine, wsd"),
                    HasSubstr("did you mean cosine?")));
  EXPECT_THAT(override_problem("data.train=[]"), HasSubstr("lists no source"));
  EXPECT_THAT(override_problem("data.train=[{weight: 2}]"), HasSubstr("has no path"));
  EXPECT_THAT(override_problem("data.train=[{path: a, weight: 0}]"), HasSubstr("got weight 0"));
  EXPECT_THAT(override_problem("data.train=[{path: a, wait: 1}]"), HasSubstr("unknown key wait"));
  EXPECT_THAT(override_problem("data.train=a"), HasSubstr("must be a list"));
  EXPECT_THAT(override_problem("data.sequence_length=0"), HasSubstr("must lie in 1"));
  EXPECT_THAT(override_problem("data.split=\"9,1\""), HasSubstr("delete split or validation"));
  for (const char* split : {"a", "1,2,3,4", "0,1", "1,-1", "1,", ""}) {
    EXPECT_THAT(problem_of(kSmall, {"data.validation=[]", fmt::format("data.split=\"{}\"", split)}),
                HasSubstr("up to three shares"))
        << split;
  }
  EXPECT_THAT(problem_of(kSmall, {"data.validation=[]", "data.split=\"969,30,1\""}), "no error");
  EXPECT_THAT(override_problem("training.train_steps=0"), HasSubstr("must lie in 1"));
  EXPECT_THAT(override_problem("training.seed=-1"), HasSubstr("must not be negative"));
  EXPECT_THAT(override_problem("training.log_interval=0"), HasSubstr("must lie in 1"));
  EXPECT_THAT(override_problem("training.eval_interval=-1"), HasSubstr("must lie in 0"));
  EXPECT_THAT(override_problem("training.replica_check_interval=-1"), HasSubstr("must lie in 0"));
  EXPECT_THAT(override_problem("training.max_consecutive_skipped_steps=-1"),
              HasSubstr("must lie in 0"));
  EXPECT_THAT(override_problem("training.eval_samples=5"), HasSubstr("eval_interval is 0"));
  EXPECT_THAT(problem_of(kSmall, {"training.eval_interval=5", "training.eval_samples=0"}),
              HasSubstr("must lie in 1"));
  EXPECT_THAT(problem_of(kSmall, {"training.eval_interval=5", "data.validation=[]"}),
              HasSubstr("nothing to evaluate"));
  EXPECT_THAT(override_problem("training.device=cuda"),
              AllOf(HasSubstr("got cuda"), HasSubstr("-DPOLYHEAD_WITH_CUDA=ON")));
  EXPECT_THAT(override_problem("training.precision=bf16"), HasSubstr("the CPU computes in fp32"));
  EXPECT_THAT(override_problem("training.cuda_graph=true"), HasSubstr("the CPU has no graphs"));
  EXPECT_THAT(override_problem("checkpoint.folder=\"\""), HasSubstr("must be the path"));
  EXPECT_THAT(override_problem("checkpoint.save_interval=-1"), HasSubstr("must lie in 0"));
  EXPECT_THAT(override_problem("checkpoint.keep_last=0"), HasSubstr("must lie in 1"));
  EXPECT_THAT(problem_of(kSmall, {"checkpoint.save_interval=4", "checkpoint.keep_every=6"}),
              HasSubstr("must be a multiple of save_interval (4)"));
  EXPECT_THAT(override_problem("parallel.tensor_model_parallel_size=0"),
              HasSubstr("must lie in 1"));
  EXPECT_THAT(override_problem("parallel.communication_timeout=-1"), HasSubstr("must lie in 0"));
}

TEST_F(TrainConfigTest, RulesBetweenSections) {
  EXPECT_THAT(problem_of(kSmall, {"parallel.tensor_model_parallel_size=2"}, 3),
              AllOf(HasSubstr("must divide the number of ranks (3)"), HasSubstr("use 1 or 3"),
                    HasSubstr("mpirun -n")));
  EXPECT_THAT(problem_of(kSmall, {"parallel.tensor_model_parallel_size=2"}, 4), "no error");
  EXPECT_THAT(problem_of(kSmall, {}, 8),
              AllOf(HasSubstr("training.global_batch_size: got 8"),
                    HasSubstr("micro_batch_size (2) x data-parallel ranks (8 = 8 ranks / 1)")));
  EXPECT_THAT(problem_of(kSmall,
                         {"parallel.tensor_model_parallel_size=8", "data.sequence_length=33",
                          "parallel.sequence_parallel=true", "training.micro_batch_size=1"},
                         8),
              HasSubstr("micro_batch_size x sequence_length (33 tokens) must be a multiple of"));
  EXPECT_THAT(override_problem("model.max_position_embeddings=31"),
              HasSubstr("must be at least data.sequence_length (32)"));
  EXPECT_THAT(problem_of(kSmall, {"parallel.tensor_model_parallel_size=3"}, 3),
              AllOf(HasSubstr("model.num_attention_heads: got 8"),
                    HasSubstr("model.num_query_groups: got 2")));
}

TEST_F(TrainConfigTest, WarnsOfWhatHasNoEffect) {
  const auto warning = [&](const std::string& assignment) {
    const auto warnings = train_config_warnings(load(kSmall, {assignment}));
    return warnings.empty() ? "" : warnings[0].key + ": " + warnings[0].message;
  };
  EXPECT_THAT(warning("model.window_size=32"), HasSubstr("the window never acts"));
  EXPECT_THAT(warning("model.window_size=31"), "");
}

TEST_F(TrainConfigTest, Uptraining) {
  std::string text = kSmall;
  text.erase(0, text.find("data:"));
  text.erase(text.find("  train_steps: 10\n"), 18);
  text += "uptrain:\n  source: runs/parent\n";
  const TrainConfig config = load(text);
  EXPECT_TRUE(config.awaits_source());
  EXPECT_EQ(config.uptrain->fraction, 0.05);
  EXPECT_EQ(config.optimizer.decay_steps, std::nullopt);
  EXPECT_EQ(load(text, {"uptrain.steps=7"}).uptrain->fraction, std::nullopt);
  EXPECT_EQ(load(text, {"uptrain.learning_rate_mode=rewarm"}).uptrain->rewarm_ratio, 0.3);
  EXPECT_THAT(problem_of(text, {"uptrain.steps=7", "uptrain.tokens=7"}), HasSubstr("keep one"));
  EXPECT_THAT(problem_of(text, {"uptrain.fraction=0"}), HasSubstr("greater than 0"));
  EXPECT_THAT(problem_of(text, {"uptrain.steps=0"}), HasSubstr("must lie in 1"));
  EXPECT_THAT(problem_of(text, {"uptrain.tokens=0"}), HasSubstr("must lie in 1"));
  EXPECT_THAT(problem_of(text, {"uptrain.source=\"\""}), HasSubstr("folder of a checkpoint"));
  EXPECT_THAT(problem_of(text, {"uptrain.rewarm_ratio=0.5"}), HasSubstr("has no warm-up"));
  EXPECT_THAT(problem_of(text, {"uptrain.rewarm_fraction=0.5"}), HasSubstr("has no warm-up"));
  EXPECT_THAT(problem_of(text, {"uptrain.learning_rate_mode=wsd", "uptrain.rewarm_ratio=2"}),
              HasSubstr("got 2; is a share of the peak"));
  EXPECT_THAT(problem_of(text, {"uptrain.learning_rate_mode=wsd", "uptrain.rewarm_fraction=1"}),
              HasSubstr("got 1; is a share of the steps"));
  EXPECT_THAT(problem_of(kSmall, {"uptrain.source=runs/parent"}),
              AllOf(HasSubstr("model: the model comes from uptrain.source"),
                    HasSubstr("training.train_steps: uptrain gives the number of steps")));
  EXPECT_THAT(problem_of(text, {"optimizer.decay_steps=9"}),
              HasSubstr("the schedule goes on from uptrain.source"));
}

TEST_F(TrainConfigTest, Distillation) {
  std::string text = kSmall;
  text.erase(0, text.find("data:"));
  text.erase(text.find("  train_steps: 10\n"), 18);
  text += "uptrain:\n  source: runs/gqa\n";
  EXPECT_EQ(load(text).distillation(), nullptr);
  const std::string distil = text + "  distill: {from: runs/mha}\n";
  const TrainConfig config = load(distil);
  EXPECT_EQ(config.distillation()->from, "runs/mha");
  EXPECT_EQ(config.distillation()->weight, 0.5);
  EXPECT_EQ(config.distillation()->temperature, 1.0);
  EXPECT_EQ(load(distil, {"uptrain.distill.weight=1"}).distillation()->weight, 1.0);
  EXPECT_EQ(load(text, {"uptrain.distill.from=runs/mha"}).distillation()->from, "runs/mha");
  EXPECT_EQ(load(distil, {"uptrain.distill={from: a, weight: 0.25}"}).distillation()->weight, 0.25);
  // The line and column of the section, and of the key.
  EXPECT_THAT(problem_of(text + "  distill: {weight: 0.5}\n"),
              AllOf(HasSubstr("c.yaml:14:"), HasSubstr("uptrain.distill.from: missing; name"),
                    HasSubstr("the parent of uptrain.source is not taken by itself")));
  EXPECT_THAT(problem_of(text + "  distill: {from: a, weight: 0}\n"),
              AllOf(HasSubstr("c.yaml:14:30"),
                    HasSubstr("uptrain.distill.weight: got 0; is the share of the divergence")));
  EXPECT_THAT(problem_of(distil, {"uptrain.distill.weight=1.5"}), HasSubstr("got 1.5; is the"));
  EXPECT_THAT(problem_of(distil, {"uptrain.distill.temperature=0"}),
              HasSubstr("uptrain.distill.temperature: got 0; both models' logits are divided"));
  EXPECT_THAT(problem_of(distil, {"uptrain.distill.temprature=2"}),
              HasSubstr("unknown key; did you mean temperature?"));
  EXPECT_THAT(problem_of(distil, {"uptrain.weight=1"}),
              HasSubstr("it belongs to section uptrain.distill"));
  EXPECT_THAT(problem_of(text, {"uptrain.source.deeper=1"}), HasSubstr("unknown key"));
}

}  // namespace
}  // namespace polyhead
