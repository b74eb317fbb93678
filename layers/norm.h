// RMSNorm or LayerNorm as the configuration says; replicated weights, no communication. With
// sequence parallelism it sees this rank's tokens, so its gradients are partial over the ranks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/parameters/parameter.h"
#include "layers/model_config.h"
#include "layers/residual_stream.h"

namespace polyhead {

class Norm {
 public:
  struct Saved {
    Tensor statistics;  // (N) rstd, or (N, 2) mean and rstd
  };

  // The norm of hidden states between the parallel regions: `name`.weight and, for LayerNorm,
  // .bias.
  Norm(const std::string& name, std::int64_t size, const ModelConfig& config, int tensor_rank,
       const Communicator* partial_over);
  // An RMSNorm whatever the configuration's: of a head (qk_norm) or of a latent (MLA).
  static Norm rms(const std::string& name, std::int64_t size, ops::NormWeight form, double epsilon,
                  int tensor_rank, const Communicator* partial_over);

  Tensor forward(const Tensor& x, Saved& saved) const;
  // Adds the stream's branch first: stream.x becomes the sum, in the branch's memory.
  Tensor forward(ResidualStream& stream, Saved& saved) const;
  // The same as the first into a given y, which may be x or a column slice.
  void forward(const Tensor& x, Tensor& y, Saved& saved) const;
  // y again, bitwise, from what was saved.
  Tensor remake(const Tensor& x, const Saved& saved) const;
  void remake(const Tensor& x, const Saved& saved, Tensor& y) const;
  // dx = the gradient through the norm + dresidual, that beside it (empty: none). dx may be either.
  void backward(const Tensor& dy, const Tensor& x, const Saved& saved, const Tensor& dresidual,
                Tensor& dx);

  void collect_parameters(std::vector<Parameter*>& parameters);

 private:
  Norm(Parameter weight, std::optional<Parameter> bias, ops::NormWeight form, double epsilon);
  void forward(const Tensor& x, ops::Residual residual, Tensor& y, Saved& saved) const;

  Parameter weight_;               // (D)
  std::optional<Parameter> bias_;  // (D); present: LayerNorm
  ops::NormWeight form_;
  double epsilon_;
};

}  // namespace polyhead
