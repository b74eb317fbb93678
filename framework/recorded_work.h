// Work of a device that is recorded once and then played again and again: on CUDA a graph, whose
// hundreds of kernels the host enqueues by one call.
//
// What the work reads and writes lies where it lay when it was recorded. Tensors that were made
// while recording are scratch: their blocks stay in the pool, which hands them out between plays
// and never gives them back to the system while the recording lives.
#pragma once

#include <functional>
#include <memory>

#include "framework/device.h"

namespace polyhead {

class RecordedWork {
 public:
  virtual ~RecordedWork() = default;
  RecordedWork() = default;
  RecordedWork(const RecordedWork&) = delete;
  RecordedWork& operator=(const RecordedWork&) = delete;

  // Enqueues all of it. Outside of the recorded work no tensor may lie in its scratch by then.
  virtual void play() const = 0;
};

// Records what `work` enqueues on the device; none of it runs. `work` must not make the host wait
// for the device, and should have run before: what is set up on first use cannot be recorded. The
// CPU records nothing: there it is an error of the program.
std::unique_ptr<RecordedWork> record_work(Device device, const std::function<void()>& work);

template <Device D>
struct WorkRecorder {
  static std::unique_ptr<RecordedWork> record(const std::function<void()>& work);
};

}  // namespace polyhead
