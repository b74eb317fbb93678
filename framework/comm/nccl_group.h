// Direct links between the devices of a group of ranks, by NCCL.
//
// Every message of every group is enqueued on the device's one communication stream, behind all
// that has been computed so far: NCCL asks that the ranks call a group's collectives in one order,
// and kernels of two groups that wait for each other's place on the devices could wait for ever.
// The host does not wait for them. The sums are NCCL's, in an order that depends on its version and
// the links. Not built without NCCL: usable() is then false.
#pragma once

#include <cstdint>
#include <functional>
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
  // Waits until the others have all that this rank sent them; not while an exception is thrown.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  // Puts what will be computed behind the collective that returned it; to be called once.
  using Join = std::function<void()>;

  // Addresses on the device, counts in elements; otherwise as in Communicator.
  [[nodiscard]] Join all_reduce(void* data, DType dtype, std::int64_t count,
                                Reduction reduction) const;
  [[nodiscard]] Join all_gather(const void* part, DType dtype, std::int64_t part_count,
                                void* whole) const;
  [[nodiscard]] Join reduce_scatter(const void* whole, DType dtype, std::int64_t part_count,
                                    void* part) const;
  [[nodiscard]] Join reduce(void* data, DType dtype, std::int64_t count, int root) const;
  [[nodiscard]] Join broadcast(void* data, DType dtype, std::int64_t count, int root) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace polyhead
