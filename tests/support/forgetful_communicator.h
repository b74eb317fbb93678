// A communicator that leaves out what a careless implementation would: parity tests must then fail.
#pragma once

#include <memory>

#include "framework/comm/communicator.h"

namespace polyhead::testing {

struct Omission {
  bool all_reduce = false;         // sums over the group itself are not made
  bool reduce_scatter = false;     // each rank keeps its own rows unsummed
  bool replica_sets = false;       // sums over groups made by split are not made
  bool replica_copies = false;     // sums over groups made by split reach their rank 0 alone
  bool copies = false;             // sums over the group itself reach rank 0 alone
  std::int64_t longer_than = 0;    // sums of more elements, here and after split, are not made
  std::int64_t tail_of_width = 0;  // in sums of tensors with this many columns...
  std::int64_t tail = 0;           // ...the last `tail` columns stay unsummed
};

class ForgetfulCommunicator final : public Communicator {
 public:
  ForgetfulCommunicator(const Communicator& inner, Omission omission)
      : inner_(inner), omission_(omission) {}
  ForgetfulCommunicator(std::unique_ptr<Communicator> owned, Omission omission)
      : owned_(std::move(owned)), inner_(*owned_), omission_(omission) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  PendingCollective start_all_reduce(Tensor& tensor, Reduction reduction) const override {
    const bool too_long = omission_.longer_than > 0 && tensor.numel() > omission_.longer_than;
    if (omission_.all_reduce || too_long) return {};
    const Tensor own = tensor.clone();
    inner_.all_reduce(tensor, reduction);
    if (omission_.copies && rank() > 0) tensor.copy_from(own);
    forget_tail(own, tensor);
    return {};
  }
  PendingCollective start_all_gather(const Tensor& part, Tensor& whole) const override {
    return inner_.start_all_gather(part, whole);
  }
  PendingCollective start_reduce_scatter(const Tensor& whole, Tensor& part) const override {
    const std::int64_t rows = part.shape()[0];
    const Tensor own = whole.row_slice(rank() * rows, (rank() + 1) * rows).clone();
    inner_.reduce_scatter(whole, part);
    if (omission_.reduce_scatter) part.copy_from(own);
    forget_tail(own, part);
    return {};
  }
  PendingCollective start_reduce(Tensor& tensor, int root) const override {
    return inner_.start_reduce(tensor, root);
  }
  void broadcast(Tensor& tensor, int root) const override { inner_.broadcast(tensor, root); }
  void barrier() const override { inner_.barrier(); }
  std::vector<std::string> all_gather_strings(const std::string& mine) const override {
    return inner_.all_gather_strings(mine);
  }
  void connect_devices() const override { inner_.connect_devices(); }
  bool runs_beside(Device device) const override { return inner_.runs_beside(device); }
  std::unique_ptr<Communicator> split(int color) const override {
    return std::make_unique<ForgetfulCommunicator>(inner_.split(color),
                                                   Omission{.all_reduce = omission_.replica_sets,
                                                            .copies = omission_.replica_copies,
                                                            .longer_than = omission_.longer_than});
  }

 private:
  void forget_tail(const Tensor& own, Tensor& sum) const {
    if (omission_.tail == 0 || sum.cols() != omission_.tail_of_width) return;
    const std::int64_t begin = sum.cols() - omission_.tail;
    sum.column_slice(begin, sum.cols()).copy_from(own.column_slice(begin, sum.cols()));
  }

  std::unique_ptr<Communicator> owned_;  // of a split group
  const Communicator& inner_;
  Omission omission_;
};

}  // namespace polyhead::testing
