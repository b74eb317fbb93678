// A small training run on disk: datasets, a configuration, and trainers on the ranks of a test.
#pragma once

#include <omp.h>

#include <functional>
#include <string>
#include <vector>

#include "data/indexed_dataset_writer.h"
#include "framework/random.h"
#include "scripts/trainer.h"
#include "tests/support/ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace polyhead::testing {

class TrainingRun {
 public:
  explicit TrainingRun(ModelConfig model = small_config()) {
    model.vocab_size = kVocabulary;
    model.init_method_std = 0.1;
    config.model = std::move(model);
    config.data.train = {{write_dataset("train", 61), 1.0}};
    config.data.validation = {{write_dataset("validation", 7), 1.0}};
    config.data.sequence_length = 6;
    config.optimizer.learning_rate = 5e-3;
    config.optimizer.warmup_steps = 4;
    config.training.train_steps = 20;
    config.training.global_batch_size = 8;
    config.training.micro_batch_size = 2;
    config.training.eval_interval = 10;           // opens the validation data
    config.training.device = DeviceChoice::kCpu;  // also where there is a GPU
    config.checkpoint.folder = (folder_ / "run").string();
    config.checkpoint.keep_last = 100;
    config = resolved(config);
  }

  // Documents in which seven tokens follow each other in a circle, with others strewn in.
  std::string write_dataset(const std::string& name, int documents) const {
    const std::string prefix = (folder_ / name).string();
    IndexedDatasetWriter writer(prefix, kVocabulary);
    const std::uint64_t stream = stream_id(name);
    for (int d = 0; d < documents; ++d) {
      std::vector<std::int32_t> document = {d % 7};
      for (std::uint64_t t = 1; t < 40; ++t) {
        const double noise = 5 * uniform(3, stream + static_cast<std::uint64_t>(d), t);
        document.push_back(noise < 1 ? static_cast<std::int32_t>(noise * kVocabulary)
                                     : (document.back() + 3) % 7);
      }
      writer.add_document(document);
    }
    writer.finish({.tokenizer = "numbers",
                   .tokenizer_file = {},
                   .tokenizer_fingerprint = "numbers",
                   .vocab_size = kVocabulary,
                   .bin_xxh3 = {}});
    return prefix;
  }

  const std::filesystem::path& folder() const { return folder_.path(); }
  std::filesystem::path checkpoint(std::int64_t step) const {
    return std::filesystem::path(config.checkpoint.folder) / checkpoint_name(step);
  }

  // Calls `work` with a trainer on each of tensor_ranks * data_ranks ranks: threads or mpirun's, as
  // for_each_group says. A single one runs in every process, so that each has its result to compare
  // with.
  void run(int tensor_ranks, int data_ranks,
           const std::function<void(Trainer&, const Communicator&)>& work) const {
    TrainConfig own = config;
    own.parallel.tensor_model_parallel_size = tensor_ranks;
    const auto train = [&](const Communicator& world) {
      omp_set_num_threads(1);
      Trainer trainer(own, world);
      work(trainer, world);
    };
    const int ranks = tensor_ranks * data_ranks;
    if (ranks == 1) {
      run_on_threads(1, train);
    } else {
      for_each_group({ranks}, train);
    }
  }

  TrainConfig config;

 private:
  static constexpr std::int32_t kVocabulary = 37;

  TemporaryFolder folder_;
};

// Losses of the next steps; every rank calls it, all get the same.
inline std::vector<double> train_for(Trainer& trainer, int steps) {
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) losses.push_back(trainer.step().loss);
  return losses;
}

}  // namespace polyhead::testing
