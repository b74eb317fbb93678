// A communicator that leaves out what a careless implementation would: parity tests must then fail.
#pragma once

#include <memory>

#include "framework/comm/communicator.h"

namespace polyhead::testing {

struct Omission {
  bool all_reduce = false;         // sums over the group itself are not made
  bool reduce_scatter = false;     // each rank keeps its own rows unsummed
  bool replica_sets = false;       // sums over groups made by split are not made
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
  void all_reduce(Tensor& tensor, Reduction reduction) const override {
    if (omission_.all_reduce) return;
    const Tensor before = tensor.clone();
    inner_.all_reduce(tensor, reduction);
    if (omission_.tail > 0 && tensor.cols() == omission_.tail_of_width) {
      const std::int64_t begin = tensor.cols() - omission_.tail;
      Tensor tail = tensor.column_slice(begin, tensor.cols());
      tail.copy_from(before.column_slice(begin, tensor.cols()));
    }
  }
  void all_gather(const Tensor& part, Tensor& whole) const override {
    inner_.all_gather(part, whole);
  }
  void reduce_scatter(const Tensor& whole, Tensor& part) const override {
    if (omission_.reduce_scatter) {
      part.copy_from(whole.row_slice(rank() * part.shape()[0], (rank() + 1) * part.shape()[0]));
    } else {
      inner_.reduce_scatter(whole, part);
    }
  }
  void broadcast(Tensor& tensor, int root) const override { inner_.broadcast(tensor, root); }
  void barrier() const override { inner_.barrier(); }
  std::vector<std::string> all_gather_strings(const std::string& mine) const override {
    return inner_.all_gather_strings(mine);
  }
  std::unique_ptr<Communicator> split(int color) const override {
    std::unique_ptr<Communicator> group = inner_.split(color);
    if (!omission_.replica_sets) return group;
    return std::make_unique<ForgetfulCommunicator>(std::move(group), Omission{.all_reduce = true});
  }

 private:
  std::unique_ptr<Communicator> owned_;  // of a split group
  const Communicator& inner_;
  Omission omission_;
};

}  // namespace polyhead::testing
