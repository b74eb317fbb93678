// Timing of work on the CUDA device, one line and one JSON object for each case.
//
// A case is prepared so many times that its tensors fill the L2 cache many times over, and the
// timed iterations take turns on them. Each iteration lies between two events of its own; the
// figure is the median. Operands are normal random numbers: a device that multiplies zeros draws
// less power and runs faster than any training.
#pragma once

#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "framework/tensor.h"

namespace polyhead::bench {

// What a case must do, whichever bounds it.
struct Case {
  std::string name;
  double flops = 0;  // one of the two is 0
  double bytes = 0;  // read and written, each tensor once
};

// Owns its operands.
using Work = std::function<void()>;

class GpuBench {
 public:
  // Appends JSON lines to the file, or prints them if the path is empty.
  explicit GpuBench(const std::string& json_path);

  // Which cases are timed from now on; all at first.
  void select(std::function<bool(const std::string& name)> selected);

  // The first case that is timed measures the device's yardsticks before: a copy of 1 GiB and an
  // 8192^3 bf16 product. A case that throws is reported, and counts as failed.
  void run(const Case& timed, const std::function<Work()>& prepare);
  int failed() const { return failed_; }

 private:
  struct Timing {
    double median = 0, least = 0, most = 0;  // seconds
    std::size_t iterations = 0;
  };
  static Timing time(const std::function<Work()>& prepare);
  void measure_yardsticks();
  void report(const Case& timed, const Timing& timing);
  void write(const std::string& json);

  std::function<bool(const std::string&)> selected_;
  std::ofstream json_;
  double copy_rate_ = 0, product_rate_ = 0;  // bytes and operations per second; 0: not yet measured
  int failed_ = 0;
};

// Standard normal numbers on the device, f32 or bf16. Large tensors repeat 4 Mi numbers, from
// another place in each.
Tensor random(const Shape& shape, DType dtype = DType::kBf16);
// Uninitialised, on the device.
Tensor empty(const Shape& shape, DType dtype = DType::kBf16);

}  // namespace polyhead::bench
