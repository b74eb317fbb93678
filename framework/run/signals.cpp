#include "framework/run/signals.h"

#include <algorithm>
#include <atomic>

namespace polyhead {
namespace {

constexpr std::array<int, 4> kHandled = {SIGUSR1, SIGUSR2, SIGTERM, SIGINT};

// All that a handler touches.
std::atomic<int> requested = 0;
std::atomic<bool> interrupted = false;
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

void request(SignalRequest request) {
  int before = requested.load();
  const int wanted = static_cast<int>(request);
  while (before < wanted && !requested.compare_exchange_weak(before, wanted)) {
  }
}

void handle(int signal) {
  if (signal == SIGINT && interrupted.exchange(true)) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);  // acts when this handler returns
  }
  request(signal == SIGUSR1 ? SignalRequest::kSave : SignalRequest::kStop);
}

}  // namespace

Signals::Signals() {
  requested = 0;
  interrupted = false;
  struct sigaction action = {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;  // a write of a checkpoint goes on
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals; ++i) sigaction(kHandled[i], &action, &before_[i]);
}

Signals::~Signals() {
  for (std::size_t i = 0; i < kSignals; ++i) sigaction(kHandled[i], &before_[i], nullptr);
}

SignalRequest Signals::poll(const Communicator& world) {
  Tensor largest = Tensor::empty({1}, DType::kI32);
  largest.data<std::int32_t>()[0] = requested.exchange(0);
  world.all_reduce(largest, Reduction::kMax);
  return static_cast<SignalRequest>(largest.data<std::int32_t>()[0]);
}

}  // namespace polyhead
