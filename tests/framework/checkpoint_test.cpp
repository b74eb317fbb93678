#include "framework/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "framework/bf16.h"
#include "framework/checkpoint/element_conversion.h"
#include "framework/checkpoint/safetensors_reader.h"
#include "framework/comm/thread_communicator.h"
#include "tests/support/compare.h"
#include "tests/support/sharded_toy.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using testing::bitwise_equal;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::read_file;
using testing::ShardedToy;
using testing::TemporaryFolder;
using testing::write_file;

constexpr std::uint64_t kSeed = 11;

CheckpointDescription description_of(std::int64_t step) {
  CheckpointDescription description;
  description.trainer.step = step;
  description.trainer.config = "model: {num_layers: 1}\n";
  description.config_json = "{}\n";
  return description;
}

// One rank of a run: the toy's slice, with moments.
struct TrainingRank {
  explicit TrainingRank(const Communicator& communicator, int tensor_size,
                        DType moments = DType::kF32)
      : world(communicator),
        tensor(communicator.split(communicator.rank() / tensor_size)),
        toy(tensor->rank(), tensor_size) {
    states = {{"exp_avg", toy.store().make_state(moments)},
              {"exp_avg_sq", toy.store().make_state(moments)}};
  }

  // Values and moments as a function of (seed, name, index).
  void fill(std::uint64_t seed) {
    toy.fill(toy.store().values(), seed);
    toy.fill(states[0].flat, seed + 1);
    toy.fill(states[1].flat, seed + 2);
  }
  // Padding and gaps included, which loading must clear.
  void fill_with_sevens() {
    for (Tensor flat : {toy.store().values(), states[0].flat, states[1].flat}) {
      std::fill_n(flat.data<float>(), flat.numel(), 7.0F);
    }
  }
  bool equals(TrainingRank& other) {
    return bitwise_equal(toy.store().values(), other.toy.store().values()) &&
           bitwise_equal(states[0].flat, other.states[0].flat) &&
           bitwise_equal(states[1].flat, other.states[1].flat);
  }
  void save(const fs::path& run, std::int64_t step) {
    save_checkpoint(run, world, *tensor, toy.store(), states, description_of(step));
  }
  TrainerState load(const fs::path& folder) {
    return load_checkpoint(folder, world, toy.store(), states);
  }

  const Communicator& world;
  std::unique_ptr<Communicator> tensor;
  ShardedToy toy;
  std::vector<NamedState> states;
};

struct Layout {
  int world, tensor;
};

void save_at(Layout layout, const fs::path& run, std::int64_t step) {
  run_on_threads(layout.world, [&](const Communicator& world) {
    TrainingRank rank(world, layout.tensor);
    rank.fill(kSeed + static_cast<std::uint64_t>(step));
    rank.save(run, step);
  });
}

std::vector<std::string> hashes_of(const fs::path& checkpoint) {
  std::vector<std::string> hashes;
  for (const FileRecord& file : read_trainer_state(checkpoint).files) {
    hashes.push_back(file.xxh3_128);
  }
  return hashes;
}

TEST(Checkpoint, AnyLayoutReadsAnyOther) {
  const std::vector<Layout> layouts = {{1, 1}, {2, 2}, {4, 4}, {2, 1}, {4, 2}};
  for (const Layout& saved : layouts) {
    const TemporaryFolder run;
    save_at(saved, run.path(), 3);
    for (const Layout& loaded : layouts) {
      run_on_threads(loaded.world, [&](const Communicator& world) {
        TrainingRank want(world, loaded.tensor), got(world, loaded.tensor);
        want.fill(kSeed + 3);
        got.fill_with_sevens();
        EXPECT_EQ(got.load(run / "step_00000003").step, 3);
        EXPECT_TRUE(got.equals(want)) << saved.tensor << " to " << loaded.tensor;
      });
    }
  }
}

TEST(Checkpoint, FilesDoNotDependOnTheLayout) {
  const TemporaryFolder one, four;
  save_at({1, 1}, one.path(), 7);
  save_at({4, 4}, four.path(), 7);
  EXPECT_EQ(hashes_of(one / "step_00000007"), hashes_of(four / "step_00000007"));
  const SafetensorsReader reader(one / "step_00000007", "model");
  EXPECT_EQ(reader.info("model.embed_tokens.weight").shape,
            (Shape{ShardedToy::kVocabulary, ShardedToy::kHidden}))
      << "padding is not written";
}

TEST(Checkpoint, ReshardingChainIsBitwise) {
  const TemporaryFolder run;
  save_at({2, 2}, run.path(), 0);
  std::int64_t step = 0;
  for (const int ranks : {4, 1, 2}) {
    run_on_threads(ranks, [&](const Communicator& world) {
      TrainingRank rank(world, ranks);
      rank.load(run.path() / checkpoint_name(step));
      rank.save(run.path(), step + 1);
    });
    ++step;
  }
  EXPECT_EQ(hashes_of(run / "step_00000003"), hashes_of(run / "step_00000000"));
}

Tensor nearest_bf16(const Tensor& wide) {
  Tensor rounded = Tensor::empty(wide.shape(), DType::kBf16);
  for (std::int64_t i = 0; i < wide.numel(); ++i) {
    rounded.data<Bf16>()[i] = to_bf16(wide.data<float>()[i]);
  }
  return rounded;
}

// From f32 to bf16 at tp 2, and back at another layout.
TEST(Checkpoint, MomentsAreSavedInTheirDtypeAndReadInAnother) {
  const TemporaryFolder run;
  save_at({1, 1}, run.path(), 1);
  run_on_threads(4, [&](const Communicator& world) {
    TrainingRank saved(world, 2), rounded(world, 2, DType::kBf16);
    saved.fill(kSeed + 1);
    rounded.load(run.path() / checkpoint_name(1));
    for (std::size_t i = 0; i < saved.states.size(); ++i) {
      EXPECT_TRUE(bitwise_equal(rounded.states[i].flat, nearest_bf16(saved.states[i].flat)));
    }
    rounded.save(run.path(), 2);
    const std::uint64_t values = 42 + 48 + 24 + 4 + 48 + 6;
    EXPECT_EQ(checkpoint_bytes(rounded.toy.store(), rounded.states), (4 + 2 + 2) * values);
  });
  const SafetensorsReader reader(run.path() / checkpoint_name(2), "optimizer/exp_avg");
  EXPECT_EQ(reader.info("model.norm.weight").dtype, DType::kBf16);
  run_on_threads(2, [&](const Communicator& world) {
    TrainingRank saved(world, 1), wide(world, 1), again(world, 1, DType::kBf16);
    saved.fill(kSeed + 1);
    wide.fill_with_sevens();
    wide.load(run.path() / checkpoint_name(2));
    again.load(run.path() / checkpoint_name(2));
    for (std::size_t i = 0; i < saved.states.size(); ++i) {
      const Tensor rounded = nearest_bf16(saved.states[i].flat);
      EXPECT_TRUE(bitwise_equal(wide.states[i].flat, converted(rounded, DType::kF32)));
      EXPECT_TRUE(bitwise_equal(again.states[i].flat, rounded));
    }
  });
}

TEST(Checkpoint, DescribesItself) {
  const TemporaryFolder run;
  write_file(run / "tokenizer.model", "pieces");
  run_on_threads(1, [&](const Communicator& world) {
    TrainingRank rank(world, 1);
    CheckpointDescription description = description_of(42);
    TrainerState& trainer = description.trainer;
    trainer.updates = 41;
    trainer.samples = 1344;
    trainer.tokens = 86016;
    trainer.seed = 0xFFFFFFFFFFFFFFFF;
    trainer.dataset_fingerprint = "d";
    trainer.tokenizer_fingerprint = "t";
    trainer.environment = {"OpenBLAS 0.3.21 Haswell", 2, 4, 2, 2};
    trainer.parent = Parent{"runs/mha", 600, "abc", "GQA with 2 groups, mean"};
    trainer.teacher = "def";
    description.config_json = "{\"model_type\": \"llama\"}\n";
    description.tokenizer_files = {run / "tokenizer.model"};
    const fs::path folder = save_checkpoint(run / "out", world, *rank.tensor, rank.toy.store(),
                                            rank.states, description);
    EXPECT_EQ(folder, run / "out/step_00000042");
    const TrainerState read = verify_checkpoint(folder);
    EXPECT_EQ(read.step, 42);
    EXPECT_EQ(read.updates, 41);
    EXPECT_EQ(read.samples, 1344);
    EXPECT_EQ(read.tokens, 86016);
    EXPECT_EQ(read.seed, trainer.seed);
    EXPECT_EQ(read.config, trainer.config);
    EXPECT_EQ(read.dataset_fingerprint, "d");
    EXPECT_EQ(read.tokenizer_fingerprint, "t");
    EXPECT_EQ(read.environment, trainer.environment);
    EXPECT_EQ(read.parent, trainer.parent);
    EXPECT_EQ(read.teacher, "def");
    std::vector<std::string> files;
    for (const FileRecord& file : read.files) files.push_back(file.name);
    EXPECT_THAT(files,
                ElementsAre("config.json", "tokenizer.model", "model.safetensors",
                            "optimizer/exp_avg.safetensors", "optimizer/exp_avg_sq.safetensors"));
    EXPECT_EQ(read_file(folder / "config.json"), description.config_json);
    EXPECT_EQ(read_file(folder / "tokenizer.model"), "pieces");
    EXPECT_EQ(read_file(run / "out/latest"), "step_00000042\n");
    EXPECT_EQ(checkpoint_bytes(rank.toy.store(), rank.states),
              3U * 4 * (42 + 48 + 24 + 4 + 48 + 6));
  });
}

TEST(Checkpoint, DamageIsNamedOnAllRanks) {
  const TemporaryFolder run;
  save_at({2, 2}, run.path(), 1);
  const fs::path folder = run / "step_00000001";
  const auto load_error = [&] {
    return error_of([&] {
      run_on_threads(2, [&](const Communicator& world) {
        TrainingRank rank(world, 2);
        const std::string error = error_of([&] { rank.load(folder); });
        EXPECT_THAT(world.all_gather_strings(error), ::testing::Each(error));
        throw Error(error);
      });
    });
  };
  for (const std::string name :
       {"config.json", "model.safetensors", "optimizer/exp_avg.safetensors", "trainer.json"}) {
    const std::string good = read_file(folder / name);
    const bool lists_others = name == "trainer.json";
    const auto names_file = HasSubstr((folder / name).string());

    write_file(folder / name, good.substr(0, good.size() - 3));
    EXPECT_THAT(load_error(), AllOf(names_file, HasSubstr(lists_others ? "JSON" : "truncated")));
    write_file(folder / name, good + "{");
    EXPECT_THAT(load_error(), AllOf(names_file, HasSubstr(lists_others ? "JSON" : "extended")));
    std::string altered = good;
    char& changed = lists_others ? altered[altered.find("\"step\": 1") + 8] : altered.back();
    changed = static_cast<char>(changed ^ 1);
    write_file(folder / name, altered);
    EXPECT_THAT(load_error(), AllOf(names_file, HasSubstr("altered")));
    fs::remove(folder / name);
    EXPECT_THAT(load_error(), HasSubstr(name));
    write_file(folder / name, good);
    EXPECT_EQ(load_error(), "no error");
  }
  EXPECT_THAT(error_of([&] { verify_checkpoint(run / "step_00000002"); }),
              HasSubstr("step_00000002 does not exist"));
}

TEST(Checkpoint, EveryFlippedByteIsFound) {
  const TemporaryFolder run;
  save_at({1, 1}, run.path(), 1);
  const fs::path path = run / "step_00000001/model.safetensors";
  const std::string good = read_file(path);
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string altered = good;
    altered[i] = static_cast<char>(altered[i] ^ (1 << i % 8));
    write_file(path, altered);
    ASSERT_THAT(error_of([&] { verify_checkpoint(run / "step_00000001"); }),
                HasSubstr("model.safetensors: altered"))
        << "byte " << i;
  }
}

TEST(Checkpoint, TensorsMustMatchTheModel) {
  const TemporaryFolder folder;
  const auto load_error = [&](const std::vector<TensorInfo>& tensors) {
    fs::remove(folder / "model.safetensors");
    SafetensorsWriter writer(folder.path(), "model", tensors);
    for (const TensorInfo& info : writer.tensors()) {
      writer.write(Tensor::zeros(info.shape, info.dtype));
    }
    writer.finish();
    return error_of([&] {
      Parameter parameter = replicated_parameter("model.norm.weight", {6}, 0, {});
      ParameterStore store({&parameter}, DType::kF32, Device::kCpu);
      load_parameters(folder.path(), store);
    });
  };
  const TensorInfo norm{"model.norm.weight", DType::kF32, {6}};
  EXPECT_EQ(load_error({norm}), "no error");
  EXPECT_THAT(load_error({}), HasSubstr("the tensor model.norm.weight is missing"));
  EXPECT_THAT(load_error({{norm.name, DType::kF32, {5}}}),
              HasSubstr("model.norm.weight has shape (5), this model needs (6)"));
  EXPECT_THAT(load_error({{norm.name, DType::kI32, {6}}}), HasSubstr("holds i32"));
  EXPECT_THAT(load_error({{norm.name, DType::kF64, {6}}}),
              HasSubstr("model.norm.weight holds f64, which f32 parameters cannot take"));
  EXPECT_EQ(load_error({{norm.name, DType::kBf16, {6}}}), "no error");
  EXPECT_THAT(load_error({norm, {"model.other", DType::kF32, {1}}}),
              HasSubstr("model.other is not a parameter of this model"));
}

TEST(Checkpoint, ResumeWalksBackPastDamage) {
  const TemporaryFolder run;
  for (const std::int64_t step : {5, 10, 15}) save_at({1, 1}, run.path(), step);
  std::vector<std::string> damage;
  const auto newest = [&] {
    damage.clear();
    return newest_good_checkpoint(run.path(),
                                  [&](const std::string& text) { damage.push_back(text); })
        .filename();
  };
  EXPECT_EQ(newest(), "step_00000015");
  EXPECT_TRUE(damage.empty());
  write_file(run / "step_00000015/model.safetensors", "short");
  EXPECT_EQ(newest(), "step_00000010");
  EXPECT_THAT(damage, ElementsAre(HasSubstr("step_00000015/model.safetensors: 5 bytes")));

  set_latest(run.path(), 5);
  EXPECT_EQ(newest(), "step_00000005") << "later steps belong to an abandoned continuation";
  write_file(run / "step_00000005/trainer.json", "{");
  EXPECT_EQ(newest(), "step_00000010") << "but they are better than nothing";
  EXPECT_EQ(damage.size(), 2U);
  fs::remove(run / "step_00000010/config.json");
  EXPECT_THAT(error_of([&] { newest(); }), HasSubstr("all 3 checkpoints are damaged"));
  const TemporaryFolder empty;
  EXPECT_THAT(error_of([&] { newest_good_checkpoint(empty.path(), {}); }),
              HasSubstr("holds no checkpoint"));
}

// Of a save that was killed between the name in RUN/latest and the rename, and of its repetition.
TEST(Checkpoint, ANameWithoutItsFolderMeansTheNewestEarlierOne) {
  const TemporaryFolder run;
  for (const std::int64_t step : {5, 10, 15}) save_at({1, 1}, run.path(), step);
  set_latest(run.path(), 12);
  EXPECT_EQ(newest_good_checkpoint(run.path(), {}), run / "step_00000010");
  EXPECT_EQ(resolve_checkpoint(run.path()), run / "step_00000010");
  prune_checkpoints(run.path(), 1, 0);
  EXPECT_THAT(checkpoint_steps(run.path()), ElementsAre(10, 15));
  set_latest(run.path(), 7);
  EXPECT_EQ(resolve_checkpoint(run.path()), run / "step_00000007") << "nothing stands in for it";
}

// Nothing but names tells them apart: a copy of the run that lost its times is worth the same.
TEST(Checkpoint, AnAbandonedCheckpointIsReplacedByTheContinuation) {
  const TemporaryFolder run;
  for (const std::int64_t step : {5, 10, 15}) save_at({1, 1}, run.path(), step);
  write_file(run / "step_00000010/left_over", "");
  set_latest(run.path(), 5);
  EXPECT_EQ(resolve_checkpoint(run.path()), run / "step_00000005");
  save_at({1, 1}, run.path(), 10);
  EXPECT_FALSE(fs::exists(run / "step_00000010/left_over"));
  EXPECT_EQ(resolve_checkpoint(run.path()), run / "step_00000010");
  EXPECT_EQ(newest_good_checkpoint(run.path(), {}), run / "step_00000010");
  save_at({1, 1}, run.path(), 10);
  EXPECT_EQ(resolve_checkpoint(run.path()), run / "step_00000010");
  EXPECT_THAT(checkpoint_steps(run.path()), ElementsAre(5, 10, 15));
}

TEST(Checkpoint, ANamedFolderMeansItselfOrItsLatest) {
  const TemporaryFolder run;
  for (const std::int64_t step : {5, 10}) save_at({1, 1}, run.path(), step);
  EXPECT_EQ(resolve_checkpoint(run / "step_00000005"), run / "step_00000005");
  EXPECT_EQ(resolve_checkpoint(run.path()), run / "step_00000010");
  set_latest(run.path(), 5);
  EXPECT_EQ(resolve_checkpoint(run.path()), run / "step_00000005");
  fs::remove(run / "latest");
  EXPECT_EQ(resolve_checkpoint(run.path()), run / "step_00000010");
  EXPECT_THAT(error_of([&] { resolve_checkpoint(run / "absent"); }), HasSubstr("does not exist"));
  const TemporaryFolder empty;
  EXPECT_THAT(error_of([&] { resolve_checkpoint(empty.path()); }),
              HasSubstr("is no checkpoint and holds none"));
}

TEST(Checkpoint, RetentionKeepsThePromisedSet) {
  const TemporaryFolder run;
  for (std::int64_t step = 10; step <= 80; step += 10) {
    save_at({1, 1}, run.path(), step);
    prune_checkpoints(run.path(), 2, 30);
  }
  EXPECT_THAT(checkpoint_steps(run.path()), ElementsAre(30, 60, 70, 80));
  prune_checkpoints(run.path(), 0, 0);
  EXPECT_THAT(checkpoint_steps(run.path()), ElementsAre(80)) << "one is always kept";

  save_at({1, 1}, run.path(), 20);
  prune_checkpoints(run.path(), 1, 0);
  EXPECT_THAT(checkpoint_steps(run.path()), ElementsAre(20, 80));
}

TEST(Checkpoint, AFailedSaveLeavesTheOldOnes) {
  const TemporaryFolder run;
  save_at({2, 2}, run.path(), 1);
  fs::create_directories(run / "step_00000009.polyhead-partial/optimizer");
  const std::string error = error_of([&] {
    run_on_threads(2, [&](const Communicator& world) {
      TrainingRank rank(world, 2);
      CheckpointDescription description = description_of(2);
      description.tokenizer_files = {"/nowhere/tokenizer.model"};
      const std::string mine = error_of([&] {
        save_checkpoint(run.path(), world, *rank.tensor, rank.toy.store(), rank.states,
                        description);
      });
      EXPECT_THAT(world.all_gather_strings(mine), ::testing::Each(mine));
      throw Error(mine);
    });
  });
  EXPECT_EQ(error, "rank 0: cannot open /nowhere/tokenizer.model: No such file or directory");
  EXPECT_THAT(checkpoint_steps(run.path()), ElementsAre(1));
  EXPECT_EQ(read_file(run / "latest"), "step_00000001\n");
  for (const fs::directory_entry& entry : fs::directory_iterator(run.path())) {
    EXPECT_THAT(entry.path().string(), ::testing::Not(HasSubstr("partial")));
  }
}

TEST(Checkpoint, SavingAStepAgainReplacesIt) {
  const TemporaryFolder run;
  save_at({1, 1}, run.path(), 4);
  const std::vector<std::string> first = hashes_of(run / "step_00000004");
  run_on_threads(1, [&](const Communicator& world) {
    TrainingRank rank(world, 1);
    rank.fill(1234);
    rank.save(run.path(), 4);
  });
  EXPECT_NE(hashes_of(run / "step_00000004"), first);
  EXPECT_EQ(verify_checkpoint(run / "step_00000004").step, 4);
}

TEST(Checkpoint, HashesAreComparedUnlessTheyWereBefore) {
  const TemporaryFolder run;
  save_at({1, 1}, run.path(), 1);
  const fs::path folder = run / "step_00000001";
  std::string weights = read_file(folder / "model.safetensors");
  weights.back() = static_cast<char>(weights.back() ^ 1);
  write_file(folder / "model.safetensors", weights);
  const auto solo = make_solo_communicator();
  TrainingRank rank(*solo, 1);
  const auto load = [&](Hashes hashes) {
    return error_of(
        [&] { load_checkpoint(folder, *solo, rank.toy.store(), rank.states, {}, hashes); });
  };
  EXPECT_THAT(load(Hashes::kVerify), AllOf(HasSubstr("altered"), HasSubstr("put the file back")));
  EXPECT_EQ(load(Hashes::kVerified), "no error");
}

TEST(Checkpoint, FreeSpaceIsCheckedBeforehand) {
  const TemporaryFolder run;
  EXPECT_NO_THROW(require_free_space(run.path(), 1000, 3));
  EXPECT_THAT(error_of([&] { require_free_space(run.path(), 1ULL << 60, 3); }),
              AllOf(HasSubstr("3 checkpoints of 1152921504606.8 MB"), HasSubstr("keep_last")));
}

TEST(TrainerFile, EveryKeyIsChecked) {
  TrainerState state;
  state.files = {{"../../etc/passwd", 3, "00"}};
  const TemporaryFolder folder;
  const auto parse_error = [](const std::string& text) {
    return error_of([&] { parse_trainer_state(text, "trainer.json"); });
  };
  write_file(folder / "trainer.json", to_json(state));
  EXPECT_THAT(error_of([&] { verify_checkpoint(folder.path()); }),
              HasSubstr("'../../etc/passwd', which is outside of the checkpoint"));
  EXPECT_THAT(parse_error("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(parse_error("{}"), HasSubstr("format_version is missing"));
  EXPECT_THAT(parse_error(R"({"format_version": "1"})"),
              HasSubstr("format_version must be a non-negative integer"));
  EXPECT_THAT(parse_error(R"({"format_version": 2})"), HasSubstr("version 2"));
  EXPECT_THAT(parse_error(R"({"format_version": 1})"), HasSubstr("checksum is missing"));
  EXPECT_THAT(parse_error(R"({"format_version": 1, "checksum": "0"})"), HasSubstr("altered"));
}

}  // namespace
}  // namespace polyhead
