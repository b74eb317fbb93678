// The model that uptrain.distill learns from, with its weights, on the ranks of a trainer.
//
// It is run forward only: beside its values in the compute dtype it keeps neither gradients nor
// masters nor moments, and its activations go block by block.
#pragma once

#include <string>

#include "framework/parameters/parameter_store.h"
#include "layers/model.h"
#include "scripts/compute.h"
#include "scripts/model_source.h"
#include "scripts/train_config.h"

namespace polyhead {

class Teacher {
 public:
  // Collective over `world`: reads config.distillation()->from, a checkpoint or a run folder for
  // its latest, and verifies its hashes. `parallel` is the student's and must outlive this.
  // `config` knows its vocab_size. Throws Error, naming uptrain.distill.from, for a checkpoint that
  // is missing, has another tokenizer or vocabulary, too few positions, or heads that cannot be
  // split over the tensor-parallel ranks.
  Teacher(const TrainConfig& config, const std::string& tokenizer_fingerprint,
          const Compute& compute, const Communicator& world, TensorParallel& parallel);

  // Hidden states (N or N / P, D) of tokens as Model::infer takes them.
  Tensor infer(const Tensor& tokens, std::int64_t batch, const Tensor& document_start) const {
    return model_.infer(tokens, batch, document_start);
  }
  // What the student's loss takes; `h` is infer's and must live as long.
  OutputLoss::Teacher with(const Tensor& h) const {
    return {model_.output_loss(), h, distill_.temperature, distill_.weight};
  }

  const std::filesystem::path& folder() const { return source_.folder; }
  // As content_hash(ModelSource) gives it.
  const std::string& hash() const { return hash_; }

 private:
  DistillConfig distill_;
  ModelSource source_;
  std::string hash_;
  Model model_;
  ParameterStore store_;
};

}  // namespace polyhead
