#include "framework/comm/checked_communicator.h"

#include "framework/error.h"

namespace polyhead {
namespace {

void check_contiguous(const Tensor& tensor) {
  POLYHEAD_CHECK(tensor.is_contiguous(), "collectives take contiguous tensors; this one is {}",
                 tensor.shape().to_string());
}

void check_part(const Tensor& part, const Tensor& whole, int ranks) {
  check_contiguous(part);
  check_contiguous(whole);
  Shape expected = part.shape();
  if (expected.rank() > 0) expected[0] *= ranks;
  POLYHEAD_CHECK(part.dtype() == whole.dtype() && expected == whole.shape(),
                 "{} parts of {} {} do not make up {} {}", ranks, name_of(part.dtype()),
                 part.shape().to_string(), name_of(whole.dtype()), whole.shape().to_string());
}

void check_root(int root, int ranks) {
  POLYHEAD_CHECK(0 <= root && root < ranks, "rank {} of {} as the root of a collective", root,
                 ranks);
}

void copy_unless_same(const Tensor& from, Tensor& to) {
  if (from.raw() != to.raw()) to.copy_from(from);
}

std::int64_t bytes_of(const Tensor& tensor) {
  return static_cast<std::int64_t>(tensor.bytes());
}

}  // namespace

CheckedCommunicator::CheckedCommunicator(int rank, int size, const CheckedCommunicator* split_from)
    : rank_(rank),
      size_(size),
      staging_(split_from == nullptr ? std::make_shared<Staging>() : split_from->staging_) {
  if (split_from != nullptr) counters_ = split_from->counters_;
}

void* CheckedCommunicator::own_part(void* whole, const Tensor& part) const {
  return static_cast<std::byte*>(whole) + rank_ * bytes_of(part);
}

PendingCollective CheckedCommunicator::start_all_reduce(Tensor& tensor, Reduction reduction) const {
  check_contiguous(tensor);
  count(Collective::kAllReduce, 2 * bytes_of(tensor) * (size_ - 1) / size_);
  if (size_ == 1) return {};
  if (const NcclGroup* links = links_to(tensor.device())) {
    return {links->all_reduce(tensor.raw(), tensor.dtype(), tensor.numel(), reduction), {tensor}};
  }
  void* const place = staging_->place_of(tensor);
  Staging::load(tensor, place);
  reduce_all(place, tensor.dtype(), tensor.numel(), reduction);
  Staging::store(place, tensor);
  return {};
}

PendingCollective CheckedCommunicator::start_all_gather(const Tensor& part, Tensor& whole) const {
  check_part(part, whole, size_);
  count(Collective::kAllGather, bytes_of(part) * (size_ - 1));
  if (size_ == 1) {
    copy_unless_same(part, whole);
    return {};
  }
  if (const NcclGroup* links = links_to(whole.device())) {
    return {links->all_gather(part.raw(), part.dtype(), part.numel(), whole.raw()), {part, whole}};
  }
  void* const place = staging_->place_of(whole);
  void* const own = own_part(place, part);
  Staging::load(part, own);
  gather_all(own, part.bytes(), place);
  Staging::store(place, whole);
  return {};
}

PendingCollective CheckedCommunicator::start_reduce_scatter(const Tensor& whole,
                                                            Tensor& part) const {
  check_part(part, whole, size_);
  count(Collective::kReduceScatter, bytes_of(part) * (size_ - 1));
  if (size_ == 1) {
    copy_unless_same(whole, part);
    return {};
  }
  if (const NcclGroup* links = links_to(whole.device())) {
    return {links->reduce_scatter(whole.raw(), whole.dtype(), part.numel(), part.raw()),
            {whole, part}};
  }
  void* const place = staging_->place_of(whole);
  Staging::load(whole, place);
  void* const sum = place == whole.raw() ? part.raw() : own_part(place, part);
  reduce_part(place, whole.dtype(), part.numel(), sum);
  Staging::store(sum, part);
  return {};
}

PendingCollective CheckedCommunicator::start_reduce(Tensor& tensor, int root) const {
  check_contiguous(tensor);
  check_root(root, size_);
  count(Collective::kReduce, rank_ == root ? 0 : bytes_of(tensor));
  if (size_ == 1) return {};
  if (const NcclGroup* links = links_to(tensor.device())) {
    return {links->reduce(tensor.raw(), tensor.dtype(), tensor.numel(), root), {tensor}};
  }
  // Every rank computes the sum; only the root's tensor may become it.
  const Tensor summed = tensor.device() == Device::kCpu ? tensor.clone() : tensor;
  void* const place = staging_->place_of(summed);
  Staging::load(summed, place);
  reduce_all(place, tensor.dtype(), tensor.numel(), Reduction::kSum);
  if (rank_ == root) Staging::store(place, tensor);
  return {};
}

void CheckedCommunicator::broadcast(Tensor& tensor, int root) const {
  check_contiguous(tensor);
  check_root(root, size_);
  count(Collective::kBroadcast, rank_ == root ? bytes_of(tensor) * (size_ - 1) : 0);
  if (size_ == 1) return;
  if (const NcclGroup* links = links_to(tensor.device())) {
    const NcclGroup::Join join =
        links->broadcast(tensor.raw(), tensor.dtype(), tensor.numel(), root);
    return PendingCollective(join, {tensor}).wait();
  }
  void* const place = staging_->place_of(tensor);
  if (rank_ == root) Staging::load(tensor, place);
  send_from(root, place, tensor.bytes());
  if (rank_ != root) Staging::store(place, tensor);
}

void CheckedCommunicator::barrier() const {
  count(Collective::kBarrier, 0);
  wait_for_all();
}

std::vector<std::string> CheckedCommunicator::all_gather_strings(const std::string& mine) const {
  count(Collective::kAllGatherStrings, static_cast<std::int64_t>(mine.size()) * (size_ - 1));
  return gather_strings(mine);
}

void CheckedCommunicator::connect_devices() const {
  if (size_ > 1 && !links_ && NcclGroup::usable(*this)) links_ = std::make_unique<NcclGroup>(*this);
}

std::unique_ptr<Communicator> CheckedCommunicator::split(int color) const {
  count(Collective::kSplit, 0);
  std::unique_ptr<Communicator> part = make_split(color);
  if (links_) part->connect_devices();
  return part;
}

}  // namespace polyhead
