#include "framework/recorded_work.h"

#include "framework/dispatch.h"
#include "framework/error.h"

namespace polyhead {

template <>
std::unique_ptr<RecordedWork> WorkRecorder<Device::kCpu>::record(const std::function<void()>&) {
  fail("the CPU works at once; there is nothing to record");
}

std::unique_ptr<RecordedWork> record_work(Device device, const std::function<void()>& work) {
  return dispatch(device, [&]<Device D>() { return WorkRecorder<D>::record(work); });
}

}  // namespace polyhead
