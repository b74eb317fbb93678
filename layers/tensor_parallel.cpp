#include "layers/tensor_parallel.h"

namespace polyhead {

const Communicator& TensorParallel::replica_set(int replicas) {
  std::unique_ptr<Communicator>& set = replica_sets_[replicas];
  if (!set) set = communicator_.split(rank() / replicas);
  return *set;
}

}  // namespace polyhead
