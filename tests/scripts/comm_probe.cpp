// A job in which something goes wrong, for the shell tests: comm_probe CASE RANK [TIMEOUT].
// All ranks add up a number for ever; at the tenth time RANK (or, if it is -1, every rank) does
// what CASE says; with `stop-device` the others' hosts then wait in the driver of a device, which
// waits for RANK's. `work` and those with a slow device end well after that; `signals` is a
// training loop without training.
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>

#include "framework/comm/hang.h"
#include "framework/error.h"
#include "framework/run/process.h"
#include "framework/run/signals.h"

namespace polyhead {
namespace {

void say(const Communicator& world, const std::string& text) {
  if (world.rank() != 0) return;
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

int obey_signals(const Communicator& world) {
  Signals signals;
  for (int step = 1;; ++step) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const SignalRequest request = signals.poll(world);
    // Would fail if the ranks had not agreed on the step.
    Tensor largest = Tensor::zeros({2}, DType::kI32);
    largest.data<std::int32_t>()[0] = static_cast<std::int32_t>(request) + 10 * step;
    largest.data<std::int32_t>()[1] = -largest.data<std::int32_t>()[0];
    world.all_reduce(largest, Reduction::kMax);
    POLYHEAD_CHECK(largest.data<std::int32_t>()[0] == -largest.data<std::int32_t>()[1],
                   "ranks act at different steps");
    if (step == 1) say(world, "ready");
    if (request != SignalRequest::kNone) say(world, "saved");
    if (request == SignalRequest::kStop) return kExitSuccess;
  }
}

void work_for_six_seconds() {
  for (int i = 0; i < 60; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    still_working();
  }
}

template <class Work>
void before_device_ends(Work&& work) {
  enqueued_on_device(Collective::kAllReduce, 64, 3);
  work();
  device_has_ended();
}

void sleep_for_seconds(int seconds) {
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
}

int misbehave(const std::string& what, int culprit, const Communicator& world) {
  Tensor x = Tensor::zeros({4}, DType::kF32);
  for (int round = 1;; ++round) {
    if (round == 10 && (culprit == world.rank() || culprit == -1)) {
      if (what == "die") std::raise(SIGKILL);
      if (what == "stop" || what == "stop-device") std::raise(SIGSTOP);
      if (what == "return") return kExitSuccess;
      if (what == "exit") std::_Exit(0);
      if (what == "other") world.barrier();
      if (what == "longer") x = Tensor::zeros({7}, DType::kF32);
      if (what == "work") work_for_six_seconds();
      if (what == "work-slow-device") before_device_ends(work_for_six_seconds);
      if (what == "wait-slow-device") before_device_ends([] { sleep_for_seconds(3); });
      if (what == "fail") fail("layers: 0 is not positive");
      if (what == "fail-configuration") throw ConfigurationError("layers: 0 is not positive");
    }
    if (round == 10 && what == "stop-device") before_device_ends([] { sleep_for_seconds(60); });
    world.all_reduce(x);
    if (round == 1) say(world, "ready");
    if (round == 11 && (what == "work" || what.ends_with("-slow-device"))) return kExitSuccess;
  }
}

int run(int argc, char** argv, const Communicator& world) {
  require(argc >= 3, "usage: comm_probe CASE RANK [TIMEOUT]");
  if (argc > 3) set_communication_timeout(std::atof(argv[3]));
  const std::string what = argv[1];
  return what == "signals" ? obey_signals(world) : misbehave(what, std::atoi(argv[2]), world);
}

}  // namespace
}  // namespace polyhead

int main(int argc, char** argv) {
  return polyhead::run_process(argc, argv, polyhead::run);
}
