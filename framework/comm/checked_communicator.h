// What all groups share: the checks of the contract, the counters, and the way of device tensors
// through host memory. A group of one moves nothing; a transport moves bytes of the host.
#pragma once

#include <memory>

#include "framework/comm/communicator.h"
#include "framework/comm/nccl_group.h"
#include "framework/comm/staging.h"

namespace polyhead {

class CheckedCommunicator : public Communicator {
 public:
  int rank() const final { return rank_; }
  int size() const final { return size_; }
  PendingCollective start_all_reduce(Tensor& tensor, Reduction reduction) const final;
  PendingCollective start_all_gather(const Tensor& part, Tensor& whole) const final;
  PendingCollective start_reduce_scatter(const Tensor& whole, Tensor& part) const final;
  PendingCollective start_reduce(Tensor& tensor, int root) const final;
  void broadcast(Tensor& tensor, int root) const final;
  void barrier() const final;
  std::vector<std::string> all_gather_strings(const std::string& mine) const final;
  void connect_devices() const final;
  bool runs_beside(Device device) const final { return links_to(device) != nullptr; }
  std::unique_ptr<Communicator> split(int color) const final;

 protected:
  // A group split from another one goes on with its counters and its host memory: what goes through
  // that has ended when a collective returns, and a rank is in one at a time.
  CheckedCommunicator(int rank, int size, const CheckedCommunicator* split_from);

 private:
  // Counts are elements; `part` may be this rank's rows of `whole`.
  virtual void reduce_all(void* data, DType dtype, std::int64_t count,
                          Reduction reduction) const = 0;
  virtual void gather_all(const void* part, std::size_t bytes, void* whole) const = 0;
  virtual void reduce_part(const void* whole, DType dtype, std::int64_t count,
                           void* part) const = 0;
  virtual void send_from(int root, void* data, std::size_t bytes) const = 0;
  virtual void wait_for_all() const = 0;
  virtual std::vector<std::string> gather_strings(const std::string& mine) const = 0;
  virtual std::unique_ptr<Communicator> make_split(int color) const = 0;

  // Where this rank's part begins in the ranks' parts one behind the other.
  void* own_part(void* whole, const Tensor& part) const;
  void count(Collective collective, std::int64_t bytes) const { counters_->add(collective, bytes); }
  // The links that move tensors of a device, or null where they go through host memory.
  const NcclGroup* links_to(Device device) const {
    return device == Device::kCpu ? nullptr : links_.get();
  }

  int rank_;
  int size_;
  std::shared_ptr<Staging> staging_;          // for device tensors without links
  mutable std::unique_ptr<NcclGroup> links_;  // between the ranks' devices, once connected
};

}  // namespace polyhead
