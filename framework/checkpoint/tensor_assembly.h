// Whole tensors from the slices that tensor-parallel ranks hold.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "framework/comm/communicator.h"
#include "framework/parameters/parameter_store.h"

namespace polyhead {

class TensorAssembly {
 public:
  // Collective over `tensor`, this rank's tensor-parallel group: tells every rank which slices the
  // others own. Only the group of world rank 0 assembles afterwards.
  TensorAssembly(const Communicator& world, const Communicator& tensor,
                 const ParameterStore& store);

  bool takes_part() const { return takes_part_; }

  // The whole tensor without padding, from the owners of its slices. `local` has the parameter's
  // local shape. Collective over the assembling group for sharded parameters: one all_gather.
  Tensor assemble(const Parameter& parameter, const Tensor& local) const;

 private:
  struct Slice {
    bool owned = false;
    std::int64_t begin = 0, end = 0;
  };

  const Communicator& tensor_;
  bool takes_part_ = false;
  std::map<std::string, std::vector<Slice>> slices_;  // by parameter, then tensor-parallel rank
};

}  // namespace polyhead
