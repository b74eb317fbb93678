// Direct links between the devices of a group of ranks, by NCCL.
//
// Messages are enqueued on the device's stream: the host does not wait, and the sums are NCCL's, in
// an order that depends on its version and the links. Not built without NCCL: usable() is then
// false.
#pragma once

#include <cstdint>
#include <memory>

#include "framework/comm/communicator.h"

namespace polyhead {

class NcclGroup {
 public:
  // Whether the ranks' devices can be connected: NCCL is there and, unless NCCL_HOSTID says that
  // they are to count as separate hosts, no two ranks share a device. Collective, the same on all.
  static bool usable(const Communicator& group);

  // Collective.
  explicit NcclGroup(const Communicator& group);
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  // Addresses on the device, counts in elements; otherwise as in Communicator.
  void all_reduce(void* data, DType dtype, std::int64_t count, Reduction reduction) const;
  void all_gather(const void* part, DType dtype, std::int64_t part_count, void* whole) const;
  void reduce_scatter(const void* whole, DType dtype, std::int64_t part_count, void* part) const;
  void broadcast(void* data, DType dtype, std::int64_t count, int root) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace polyhead
