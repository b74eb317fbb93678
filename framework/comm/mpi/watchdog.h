// Ends a job whose ranks wait for each other in vain; framework/comm/hang.h tells the manners.
#pragma once

#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "framework/comm/hang.h"
#include "framework/comm/mpi/control_channel.h"

namespace polyhead::mpi {

// Prints "polyhead: error: MESSAGE" and ends all ranks.
[[noreturn]] void end_job(const std::string& message, int exit_code);

class Watchdog {
 public:
  Watchdog();

  int rank() const { return control_.rank(); }  // of the world
  int size() const { return control_.size(); }
  // For the message: where each rank lives.
  void set_processes(std::vector<std::string> processes) { processes_ = std::move(processes); }

  // A thread watches in place of the program's where that may be held up by its device, which
  // framework/comm/hang.h explains.
  void look_out();

  // MPI is called by one thread at a time, the one that holds this. begin(), check() and end() ask
  // it of their caller.
  std::unique_lock<std::mutex> turn() { return std::unique_lock(mpi_); }

  // Around every collective, with check() again and again while it waits. `waits_for` is a rank of
  // the world, or kOtherDevices. check() does not return if the job has hung.
  void begin(Collective collective, std::int64_t sequence, std::int64_t bytes, int group_size);
  void check(int waits_for);
  void end();

  // Tells the others, once a second at most, that this rank works.
  void tell_working();

  // Waits until all ranks are here. Nobody looks out from then on.
  void finish();

  std::vector<std::string> exchange_failures(const std::string& mine);

 private:
  using Clock = std::chrono::steady_clock;

  double seconds_since(Clock::time_point start) const;
  void look_at_device();
  void read_messages();
  WaitState state_now() const;
  void inquire();
  void conclude();

  std::mutex mpi_;
  ControlChannel control_;
  std::vector<std::string> processes_;
  WaitState state_;
  Clock::time_point began_;
  Clock::time_point checked_;
  Clock::time_point told_working_;
  Clock::time_point heard_working_;
  Clock::time_point enqueued_;         // what the device was last seen to wait for
  std::vector<bool> finished_;         // by rank
  std::vector<std::string> failures_;  // by rank
  Clock::time_point saw_finished_;     // when the rank waited for was first seen to have finished
  bool waits_for_finished_ = false;
  bool inquiring_ = false;
  Clock::time_point inquired_;
  int inquiry_ = 0;
  std::vector<WaitState> answers_;
  std::jthread lookout_;  // last: it uses all of the above
};

}  // namespace polyhead::mpi
