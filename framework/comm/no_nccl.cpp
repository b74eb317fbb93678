// Groups in a binary without NCCL: device tensors go through host memory.
#include "framework/comm/nccl_group.h"
#include "framework/error.h"

namespace polyhead {

struct NcclGroup::State {};

bool NcclGroup::usable(const Communicator&) {
  return false;
}

NcclGroup::NcclGroup(const Communicator&) {
  POLYHEAD_CHECK(false, "this binary was built without NCCL");
}
NcclGroup::~NcclGroup() = default;

NcclGroup::Join NcclGroup::all_reduce(void*, DType, std::int64_t, Reduction) const {
  return {};
}
NcclGroup::Join NcclGroup::all_gather(const void*, DType, std::int64_t, void*) const {
  return {};
}
NcclGroup::Join NcclGroup::reduce_scatter(const void*, DType, std::int64_t, void*) const {
  return {};
}
NcclGroup::Join NcclGroup::reduce(void*, DType, std::int64_t, int) const {
  return {};
}
NcclGroup::Join NcclGroup::broadcast(void*, DType, std::int64_t, int) const {
  return {};
}

}  // namespace polyhead
