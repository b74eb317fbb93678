// Wall time by kind of work, for benchmarks: one scope on the stack around an op.
//
// Off until enabled; a disabled scope costs one load. Times are those of the threads that call ops
// (one per rank), so parallel loops inside an op count once.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>

namespace polyhead {

enum class Work { kMatmul, kAttention };
inline constexpr std::size_t kWorkKinds = 2;

class Profiler {
 public:
  static void enable(bool on) { enabled() = on; }
  static bool is_enabled() { return enabled(); }
  static void add(Work work, double seconds) {
    std::atomic<double>& total = totals()[static_cast<std::size_t>(work)];
    double before = total;
    while (!total.compare_exchange_weak(before, before + seconds)) {
    }
  }
  static double seconds(Work work) { return totals()[static_cast<std::size_t>(work)]; }

 private:
  static std::atomic<bool>& enabled() {
    static std::atomic<bool> on{false};
    return on;
  }
  static std::array<std::atomic<double>, kWorkKinds>& totals() {
    static std::array<std::atomic<double>, kWorkKinds> seconds{};
    return seconds;
  }
};

class ProfileScope {
 public:
  explicit ProfileScope(Work work) : work_(work), active_(Profiler::is_enabled()) {
    if (active_) begin_ = Clock::now();
  }
  ~ProfileScope() {
    if (active_) {
      Profiler::add(work_, std::chrono::duration<double>(Clock::now() - begin_).count());
    }
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  Work work_;
  bool active_;
  Clock::time_point begin_;
};

}  // namespace polyhead
