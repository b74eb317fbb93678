#include "framework/comm/mpi/watchdog.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "framework/error.h"
#include "framework/exit_code.h"

namespace polyhead::mpi {
namespace {

using namespace std::chrono_literals;

constexpr auto kCheckInterval = 20ms;
// How long a message of a rank that has finished may still be on its way.
constexpr double kInFlight = 1;
constexpr double kFailureWindow = 2;
constexpr double kInquiry = 2;
// From the end of the inquiry until the launcher has killed everything.
constexpr double kKilling = 3;

// Seconds for which the answers to a question are collected.
double inquiry_window() {
  return std::min(kInquiry, communication_timeout() / 4);
}

// Seconds of waiting that make a rank ask.
double patience() {
  return communication_timeout() - std::min(kKilling, communication_timeout() / 4) -
         inquiry_window();
}

}  // namespace

void end_job(const std::string& message, int exit_code) {
  print_error(message);
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

Watchdog::Watchdog()
    : finished_(static_cast<std::size_t>(size())), failures_(static_cast<std::size_t>(size())) {
  state_.rank = rank();
}

double Watchdog::seconds_since(Clock::time_point start) const {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void Watchdog::look_out() {
  lookout_ = std::jthread([this](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::this_thread::sleep_for(kCheckInterval);
      look_at_device();
    }
  });
}

void Watchdog::look_at_device() {
  // Whoever is in a collective watches by itself.
  const std::unique_lock my_turn(mpi_, std::try_to_lock);
  if (!my_turn) return;
  const std::optional<DeviceWork> work = unfinished_device_work();
  if (!work || work->since != enqueued_) end();
  if (!work) return;
  enqueued_ = work->since;
  state_ = work->last;
  state_.rank = rank();
  began_ = std::max({work->since, heard_working_, told_working_});
  check(kOtherDevices);
}

void Watchdog::begin(Collective collective, std::int64_t sequence, std::int64_t bytes,
                     int group_size) {
  end();  // of what the lookout saw
  state_.waits = true;
  state_.collective = collective;
  state_.sequence = sequence;
  state_.bytes = bytes;
  state_.group_size = group_size;
  began_ = Clock::now();
  // A rank that never waits long answers too.
  if (began_ - checked_ > 1s) {
    checked_ = began_;
    read_messages();
  }
}

void Watchdog::end() {
  state_.waits = false;
  waits_for_finished_ = false;
  inquiring_ = false;
}

void Watchdog::check(int waits_for) {
  const Clock::time_point now = Clock::now();
  if (now - checked_ < kCheckInterval) return;
  checked_ = now;
  state_.waits_for = waits_for;
  read_messages();
  if (state_.waits && waits_for != kOtherDevices &&
      finished_[static_cast<std::size_t>(waits_for)]) {
    if (!waits_for_finished_) saw_finished_ = now;
    waits_for_finished_ = true;
  } else {
    waits_for_finished_ = false;
  }
  const bool late = communication_timeout() > 0 && seconds_since(began_) > patience();
  const bool in_vain = waits_for_finished_ && seconds_since(saw_finished_) > kInFlight;
  if (!inquiring_ && (late || in_vain)) inquire();
  if (inquiring_ && seconds_since(inquired_) > inquiry_window()) conclude();
}

void Watchdog::tell_working() {
  const auto my_turn = turn();
  const Clock::time_point now = Clock::now();
  if (now - told_working_ < 1s) return;
  told_working_ = now;
  control_.send_to_all_others({.kind = ControlKind::kWorking, .state = state_now()});
  read_messages();
}

void Watchdog::finish() {
  lookout_ = {};
  end();
  state_.finished = true;
  began_ = Clock::now();
  control_.send_to_all_others({.kind = ControlKind::kFinished, .state = state_now()});
  finished_[static_cast<std::size_t>(rank())] = true;
  while (true) {
    const auto working = std::find(finished_.begin(), finished_.end(), false);
    if (working == finished_.end()) return;
    check(static_cast<int>(working - finished_.begin()));
    std::this_thread::sleep_for(1ms);
  }
}

std::vector<std::string> Watchdog::exchange_failures(const std::string& mine) {
  const auto my_turn = turn();
  failures_[static_cast<std::size_t>(rank())] = mine;
  control_.send_to_all_others({.kind = ControlKind::kFailed, .state = state_now(), .text = mine});
  const Clock::time_point start = Clock::now();
  while (seconds_since(start) < kFailureWindow &&
         std::any_of(failures_.begin(), failures_.end(),
                     [](const std::string& failure) { return failure.empty(); })) {
    read_messages();
    std::this_thread::sleep_for(1ms);
  }
  return failures_;
}

void Watchdog::read_messages() {
  while (const std::optional<ControlMessage> message = control_.receive()) {
    const auto sender = static_cast<std::size_t>(message->state.rank);
    switch (message->kind) {
      case ControlKind::kQuestion:
        control_.send(
            message->state.rank,
            {.kind = ControlKind::kAnswer, .inquiry = message->inquiry, .state = state_now()});
        break;
      case ControlKind::kAnswer:
        if (inquiring_ && message->inquiry == inquiry_) answers_.push_back(message->state);
        break;
      case ControlKind::kWorking:
        heard_working_ = began_ = Clock::now();
        inquiring_ = false;
        break;
      case ControlKind::kFinished:
        finished_[sender] = true;
        break;
      case ControlKind::kFailed:
        failures_[sender] = message->text;
        break;
    }
  }
}

WaitState Watchdog::state_now() const {
  WaitState state = state_;
  state.seconds = seconds_since(began_);
  // Late enough to conclude an inquiry of its own before long.
  const bool late = communication_timeout() > 0 && (state.waits || state.finished) &&
                    state.seconds > patience() - inquiry_window();
  state.alarmed = late || waits_for_finished_;
  return state;
}

void Watchdog::inquire() {
  inquiring_ = true;
  inquired_ = Clock::now();
  answers_.clear();
  control_.send_to_all_others(
      {.kind = ControlKind::kQuestion, .inquiry = ++inquiry_, .state = state_now()});
}

void Watchdog::conclude() {
  const bool another_tells =
      std::any_of(answers_.begin(), answers_.end(),
                  [&](const WaitState& state) { return state.alarmed && state.rank < rank(); });
  if (another_tells && seconds_since(inquired_) < inquiry_window() + kKilling) return;
  answers_.push_back(state_now());
  std::sort(answers_.begin(), answers_.end(),
            [](const WaitState& a, const WaitState& b) { return a.rank < b.rank; });
  end_job(describe_hang(answers_, processes_), kExitHang);
}

}  // namespace polyhead::mpi
