#include "framework/comm/nccl_group.h"

#include <nccl.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string_view>

#include "framework/comm/hang.h"
#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/error.h"
#include "framework/run/processors.h"

namespace polyhead {
namespace {

void check(ncclResult_t result, std::string_view call) {
  if (result == ncclSuccess) return;
  fail("NCCL: {} in {}; NCCL_DEBUG=INFO tells more", ncclGetErrorString(result), call);
}

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return ncclFloat64;
    case DType::kF32:
      return ncclFloat32;
    case DType::kF16:
      return ncclFloat16;
    case DType::kBf16:
      return ncclBfloat16;
    case DType::kI32:
      return ncclInt32;
    case DType::kI64:
      return ncclInt64;
  }
  return ncclInt8;
}

std::size_t count_of(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

// The device's host and its place there; NCCL takes ranks of different NCCL_HOSTID for strangers.
std::string device_name() {
  std::array<char, 64> bus{};
  int device = 0;
  POLYHEAD_CUDA(cudaGetDevice(&device));
  POLYHEAD_CUDA(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device));
  const char* const host = std::getenv("NCCL_HOSTID");
  return fmt::format("{} {}", host == nullptr ? host_name() : host, bus.data());
}

}  // namespace

struct NcclGroup::State {
  ncclComm_t comm = nullptr;
  int size = 0;

  // The host may already wait for other ranks in the call, and the device from when its later work
  // is put behind it. `count` is that of the whole tensor.
  template <class Call>
  Join enqueue(Collective collective, std::int64_t count, DType dtype, Call&& call) const {
    cuda::Context& context = cuda::Context::instance();
    enqueued_on_device(collective, count * static_cast<std::int64_t>(size_of(dtype)), size);
    context.fork_communication();
    check(call(context.communication_stream()), name_of(collective));
    return [&context, mark = context.mark_communication()] {
      enqueued_on_device_again();
      context.join_communication(mark);
    };
  }
};

bool NcclGroup::usable(const Communicator& group) {
  const std::vector<std::string> devices = group.all_gather_strings(device_name());
  return std::set<std::string>(devices.begin(), devices.end()).size() == devices.size();
}

NcclGroup::NcclGroup(const Communicator& group) : state_(std::make_unique<State>()) {
  ncclUniqueId id;
  std::string message;
  if (group.rank() == 0) {
    check(ncclGetUniqueId(&id), "ncclGetUniqueId");
    message.assign(id.internal, sizeof(id.internal));
  }
  message = group.all_gather_strings(message).front();
  std::memcpy(id.internal, message.data(), sizeof(id.internal));
  state_->size = group.size();
  enqueued_on_device(Collective::kSplit, sizeof(id.internal), group.size());
  check(ncclCommInitRank(&state_->comm, group.size(), id, group.rank()), "ncclCommInitRank");
  cuda::Context::instance().synchronize();  // no longer looked out for
}

NcclGroup::~NcclGroup() {
  if (state_->comm == nullptr) return;
  bool in_order = std::uncaught_exceptions() == 0;
  try {
    if (in_order) cuda::Context::instance().synchronize();
  } catch (const Error&) {
    in_order = false;  // a failed device refuses its next use too, which will say so
  }
  // A group that ends by an exception must not wait for ranks that will never come. Any other must
  // not abort: the others may still await what its kernels have left to NCCL's threads to send. A
  // failure of either is theirs to tell: who still awaits something reports it.
  if (!in_order) {
    static_cast<void>(ncclCommAbort(state_->comm));
    return;
  }
  enqueued_on_device_again();
  static_cast<void>(ncclCommDestroy(state_->comm));
  device_has_ended();
}

NcclGroup::Join NcclGroup::all_reduce(void* data, DType dtype, std::int64_t count,
                                      Reduction reduction) const {
  return state_->enqueue(Collective::kAllReduce, count, dtype, [&](cudaStream_t stream) {
    return ncclAllReduce(data, data, count_of(count), type_of(dtype),
                         reduction == Reduction::kSum ? ncclSum : ncclMax, state_->comm, stream);
  });
}

NcclGroup::Join NcclGroup::all_gather(const void* part, DType dtype, std::int64_t part_count,
                                      void* whole) const {
  return state_->enqueue(Collective::kAllGather, part_count * state_->size, dtype,
                         [&](cudaStream_t stream) {
                           return ncclAllGather(part, whole, count_of(part_count), type_of(dtype),
                                                state_->comm, stream);
                         });
}

NcclGroup::Join NcclGroup::reduce_scatter(const void* whole, DType dtype, std::int64_t part_count,
                                          void* part) const {
  return state_->enqueue(Collective::kReduceScatter, part_count * state_->size, dtype,
                         [&](cudaStream_t stream) {
                           return ncclReduceScatter(whole, part, count_of(part_count),
                                                    type_of(dtype), ncclSum, state_->comm, stream);
                         });
}

NcclGroup::Join NcclGroup::reduce(void* data, DType dtype, std::int64_t count, int root) const {
  return state_->enqueue(Collective::kReduce, count, dtype, [&](cudaStream_t stream) {
    return ncclReduce(data, data, count_of(count), type_of(dtype), ncclSum, root, state_->comm,
                      stream);
  });
}

NcclGroup::Join NcclGroup::broadcast(void* data, DType dtype, std::int64_t count, int root) const {
  return state_->enqueue(Collective::kBroadcast, count, dtype, [&](cudaStream_t stream) {
    return ncclBroadcast(data, data, count_of(count), type_of(dtype), root, state_->comm, stream);
  });
}

}  // namespace polyhead
