#include "framework/comm/checked_communicator.h"

#include "framework/error.h"

namespace polyhead {
namespace {

void check_host_tensor(const Tensor& tensor) {
  POLYHEAD_CHECK(tensor.device() == Device::kCpu && tensor.is_contiguous(),
                 "collectives take contiguous host tensors; this one is {}",
                 tensor.shape().to_string());
}

void check_part(const Tensor& part, const Tensor& whole, int ranks) {
  check_host_tensor(part);
  check_host_tensor(whole);
  Shape expected = part.shape();
  if (expected.rank() > 0) expected[0] *= ranks;
  POLYHEAD_CHECK(part.dtype() == whole.dtype() && expected == whole.shape(),
                 "{} parts of {} {} do not make up {} {}", ranks, name_of(part.dtype()),
                 part.shape().to_string(), name_of(whole.dtype()), whole.shape().to_string());
}

std::int64_t bytes_of(const Tensor& tensor) {
  return tensor.numel() * static_cast<std::int64_t>(size_of(tensor.dtype()));
}

}  // namespace

void CheckedCommunicator::all_reduce(Tensor& tensor, Reduction reduction) const {
  check_host_tensor(tensor);
  count(Collective::kAllReduce, 2 * bytes_of(tensor) * (size_ - 1) / size_);
  reduce_all(tensor.raw(), tensor.dtype(), tensor.numel(), reduction);
}

void CheckedCommunicator::all_gather(const Tensor& part, Tensor& whole) const {
  check_part(part, whole, size_);
  count(Collective::kAllGather, bytes_of(part) * (size_ - 1));
  gather_all(part.raw(), static_cast<std::size_t>(bytes_of(part)), whole.raw());
}

void CheckedCommunicator::reduce_scatter(const Tensor& whole, Tensor& part) const {
  check_part(part, whole, size_);
  count(Collective::kReduceScatter, bytes_of(part) * (size_ - 1));
  reduce_part(whole.raw(), whole.dtype(), part.numel(), part.raw());
}

void CheckedCommunicator::broadcast(Tensor& tensor, int root) const {
  check_host_tensor(tensor);
  POLYHEAD_CHECK(0 <= root && root < size_, "broadcast from rank {} of {}", root, size_);
  count(Collective::kBroadcast, rank_ == root ? bytes_of(tensor) * (size_ - 1) : 0);
  send_from(root, tensor.raw(), static_cast<std::size_t>(bytes_of(tensor)));
}

void CheckedCommunicator::barrier() const {
  count(Collective::kBarrier, 0);
  wait_for_all();
}

std::vector<std::string> CheckedCommunicator::all_gather_strings(const std::string& mine) const {
  count(Collective::kAllGatherStrings, static_cast<std::int64_t>(mine.size()) * (size_ - 1));
  return gather_strings(mine);
}

std::unique_ptr<Communicator> CheckedCommunicator::split(int color) const {
  count(Collective::kSplit, 0);
  return make_split(color);
}

}  // namespace polyhead
