#include "framework/comm/hang.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace polyhead {
namespace {

std::atomic<double> timeout_seconds = 600;

struct SignOfLife {
  std::function<void()> send;
  std::thread::id voice;
};
SignOfLife sign_of_life;

// Of the program's thread, read by the lookout.
struct OnDevice {
  std::mutex mutex;
  DeviceWork work;
  bool has_ended = true;
};
OnDevice on_device;

// "rank 1", "ranks 0 and 2", "ranks 0, 2 and 3"
std::string name_ranks(const std::vector<int>& ranks) {
  if (ranks.size() == 1) return fmt::format("rank {}", ranks.front());
  return fmt::format("ranks {} and {}", fmt::join(ranks.begin(), ranks.end() - 1, ", "),
                     ranks.back());
}

std::vector<int> silent_ranks(const std::vector<WaitState>& answers, std::size_t world_size) {
  std::vector<int> silent;
  for (int rank = 0; rank < static_cast<int>(world_size); ++rank) {
    const bool answered = std::any_of(answers.begin(), answers.end(),
                                      [&](const WaitState& state) { return state.rank == rank; });
    if (!answered) silent.push_back(rank);
  }
  return silent;
}

}  // namespace

void set_communication_timeout(double seconds) {
  timeout_seconds = seconds;
}

double communication_timeout() {
  return timeout_seconds;
}

void still_working() {
  if (sign_of_life.send && sign_of_life.voice == std::this_thread::get_id()) sign_of_life.send();
}

void set_sign_of_life(std::function<void()> send) {
  sign_of_life = {std::move(send), std::this_thread::get_id()};
}

void enqueued_on_device(Collective collective, std::int64_t bytes, int group_size) {
  const std::lock_guard lock(on_device.mutex);
  WaitState& last = on_device.work.last;
  last.waits = true;
  last.waits_for = kOtherDevices;
  last.collective = collective;
  last.bytes = bytes;
  last.group_size = group_size;
  ++last.sequence;
  on_device.work.since = std::chrono::steady_clock::now();
  on_device.has_ended = false;
}

void enqueued_on_device_again() {
  const std::lock_guard lock(on_device.mutex);
  on_device.work.since = std::chrono::steady_clock::now();
  on_device.has_ended = false;
}

std::int64_t collectives_enqueued() {
  const std::lock_guard lock(on_device.mutex);
  return on_device.work.last.sequence;
}

void device_has_ended() {
  const std::lock_guard lock(on_device.mutex);
  on_device.has_ended = true;
}

std::optional<DeviceWork> unfinished_device_work() {
  const std::lock_guard lock(on_device.mutex);
  if (on_device.has_ended) return std::nullopt;
  return on_device.work;
}

std::string describe(const WaitState& state) {
  return fmt::format("{} {} ({} bytes, {} ranks)", name_of(state.collective), state.sequence,
                     state.bytes, state.group_size);
}

std::string describe_hang(const std::vector<WaitState>& answers,
                          const std::vector<std::string>& processes) {
  std::vector<std::string> sentences;
  const std::vector<int> silent = silent_ranks(answers, processes.size());
  for (int rank : silent) {
    sentences.push_back(fmt::format("rank {} ({}) stopped answering", rank,
                                    processes[static_cast<std::size_t>(rank)]));
  }
  std::vector<int> finished;
  std::map<std::string, std::vector<int>> waiting;  // by what for
  double seconds = 0;
  for (const WaitState& state : answers) {
    if (state.finished) finished.push_back(state.rank);
    if (!state.waits) continue;
    const std::string what = state.waits_for == kOtherDevices
                                 ? "for the devices of other ranks, last in"
                                 : fmt::format("for rank {} in", state.waits_for);
    waiting[fmt::format("{} {}", what, describe(state))].push_back(state.rank);
    seconds = std::max(seconds, state.seconds);
  }
  if (!finished.empty()) {
    sentences.push_back(name_ranks(finished) + " finished without the others");
  }
  for (const auto& [what, ranks] : waiting) {
    sentences.push_back(
        fmt::format("{} {} {}", name_ranks(ranks), ranks.size() == 1 ? "waits" : "wait", what));
  }
  std::string advice;
  if (!silent.empty()) {
    advice = fmt::format(
        "; a silent rank is stopped, swapping, looping or cut off: raise communication_timeout "
        "({:g} s) if it was only slow",
        communication_timeout());
  }
  return fmt::format("communication stopped for {:.0f} s: {}{}", seconds,
                     fmt::join(sentences, "; "), advice);
}

}  // namespace polyhead
