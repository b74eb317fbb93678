#include "layers/parameter_shapes.h"

#include "layers/model.h"

namespace polyhead {

namespace {

// The first of some ranks that are only planned: layers may ask who they are, not communicate.
class PlannedRank final : public Communicator {
 public:
  explicit PlannedRank(int size) : size_(size) {}

  int rank() const override { return 0; }
  int size() const override { return size_; }
  PendingCollective start_all_reduce(Tensor&, Reduction) const override { refuse(); }
  PendingCollective start_all_gather(const Tensor&, Tensor&) const override { refuse(); }
  PendingCollective start_reduce_scatter(const Tensor&, Tensor&) const override { refuse(); }
  PendingCollective start_reduce(Tensor&, int) const override { refuse(); }
  void broadcast(Tensor&, int) const override { refuse(); }
  void barrier() const override { refuse(); }
  void connect_devices() const override { refuse(); }
  bool runs_beside(Device) const override { return false; }
  std::vector<std::string> all_gather_strings(const std::string&) const override { refuse(); }
  std::unique_ptr<Communicator> split(int) const override {
    return std::make_unique<PlannedRank>(1);
  }

 private:
  [[noreturn]] static void refuse() { throw std::logic_error("a planned rank cannot communicate"); }

  int size_;
};

ModelPart part_of(const std::string& name) {
  const auto contains = [&](const char* text) { return name.find(text) != std::string::npos; };
  if (contains("model.embed_")) return ModelPart::kEmbedding;
  if (contains(".self_attn.")) return ModelPart::kAttention;
  if (contains(".mlp.")) return ModelPart::kMlp;
  if (contains("lm_head.")) return ModelPart::kHead;
  return ModelPart::kNorms;
}

}  // namespace

std::vector<ParameterShape> parameter_shapes(const ModelConfig& config, int tensor_parallel_size) {
  const PlannedRank rank(tensor_parallel_size);
  TensorParallel parallel(rank, /*sequence_parallel=*/false);
  Model model(config, /*max_sequence_length=*/1, parallel, DType::kF32);
  std::vector<ParameterShape> shapes;
  for (const Parameter* parameter : model.parameters()) {
    shapes.push_back({parameter->name, part_of(parameter->name), parameter->global_shape,
                      parameter->local_shape});
  }
  return shapes;
}

std::int64_t count_parameters(const std::vector<ParameterShape>& shapes, ModelPart part) {
  std::int64_t count = 0;
  for (const ParameterShape& shape : shapes) {
    if (shape.part == part) count += shape.global.numel();
  }
  return count;
}

std::int64_t count_parameters(const std::vector<ParameterShape>& shapes) {
  std::int64_t count = 0;
  for (const ParameterShape& shape : shapes) count += shape.global.numel();
  return count;
}

}  // namespace polyhead
