// One step of a run in miniature, to be killed and starved by checkpoint_faults.sh.
//
//   checkpoint_probe check RUN   prints the step of the newest good checkpoint
//   checkpoint_probe save RUN    loads that checkpoint, if any, saves the next step and prints it
//
// The content of step n is a function of n, so a mixture of two steps is found.
#include <cstdio>
#include <string_view>

#include "framework/checkpoint/checkpoint.h"
#include "tests/support/compare.h"
#include "tests/support/sharded_toy.h"

namespace polyhead {
namespace {

class Probe {
 public:
  Probe() {
    states_ = {{"exp_avg", toy_.store().make_state(DType::kF32)},
               {"exp_avg_sq", toy_.store().make_state(DType::kF32)}};
  }

  // Loads the newest good checkpoint and compares it with what its step must hold.
  std::int64_t load(const std::filesystem::path& run) {
    const auto report = [](const std::string& damage) {
      std::fprintf(stderr, "passed over: %s\n", damage.c_str());
    };
    const std::int64_t step =
        load_checkpoint(newest_good_checkpoint(run, report), *world_, toy_.store(), states_).step;
    for (std::size_t i = 0; i < states_.size(); ++i) {
      Tensor expected = toy_.store().make_state(DType::kF32);
      toy_.fill(expected, seed_of(step, i));
      require(testing::bitwise_equal(states_[i].flat, expected), "step {} holds another's {}", step,
              states_[i].name);
    }
    return step;
  }

  void save(const std::filesystem::path& run, std::int64_t step) {
    toy_.fill(toy_.store().values(), static_cast<std::uint64_t>(step));
    for (std::size_t i = 0; i < states_.size(); ++i) toy_.fill(states_[i].flat, seed_of(step, i));
    CheckpointDescription description;
    description.trainer.step = step;
    description.config_json = "{}";
    save_checkpoint(run, *world_, *world_, toy_.store(), states_, description);
    prune_checkpoints(run, 2, 0);
  }

 private:
  static std::uint64_t seed_of(std::int64_t step, std::size_t state) {
    return static_cast<std::uint64_t>(step) * 10 + state;
  }

  std::unique_ptr<Communicator> world_ = make_solo_communicator();
  testing::ShardedToy toy_{0, 1};
  std::vector<NamedState> states_;
};

}  // namespace
}  // namespace polyhead

int main(int argc, char** argv) {
  try {
    polyhead::require(argc == 3, "usage: checkpoint_probe check|save RUN");
    const std::filesystem::path run = argv[2];
    polyhead::Probe probe;
    const bool begins = polyhead::checkpoint_steps(run).empty();
    std::int64_t step = begins ? 0 : probe.load(run);
    if (std::string_view(argv[1]) == "save") probe.save(run, ++step);
    polyhead::require(
        std::printf("%lld\n", static_cast<long long>(step)) > 0 && std::fflush(stdout) == 0,
        "cannot print the step");
    return 0;
  } catch (const polyhead::Error& error) {
    std::fprintf(stderr, "checkpoint_probe: %s\n", error.what());
    return 1;
  }
}
