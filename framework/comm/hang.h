// When communication stops: how long a rank waits, and the one message that tells why.
//
// MPI waits for ever for a rank that was stopped, loops or left early. Here a rank that has waited
// nearly `communication_timeout` seconds asks all others what they do; those that wait answer. The
// lowest rank that waited so long prints the message below and ends the job. A rank that works for
// long while others wait, such as one that writes a checkpoint, tells them so: still_working().
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "framework/comm/collective.h"

namespace polyhead {

// Seconds until a hanging job has ended on all ranks; 0 waits for ever. Of the process, 600 unless
// set; the same on all ranks.
void set_communication_timeout(double seconds);
double communication_timeout();

// The others begin to count their seconds anew. For work between collectives that may outlast the
// timeout: call it again and again; within a second of the last call it costs nothing. Other
// threads than the one that made the World have no voice.
void still_working();
// How the World tells the others; null: there are none.
void set_sign_of_life(std::function<void()> send);

// Devices also exchange messages among themselves; the host meets a hang of theirs where it waits
// for its device. A wait for a collective was enqueued on this rank's device.
void enqueued_on_device(Collective collective, std::int64_t bytes, int group_size);
// How many were, and that recorded work with the last of them was enqueued once more.
std::int64_t collectives_enqueued();
void enqueued_on_device_again();
// Around a wait of the host for its device, with check() again and again where others may be the
// reason: check() does not return if the job has hung.
class DeviceWait {
 public:
  DeviceWait();
  ~DeviceWait();
  DeviceWait(const DeviceWait&) = delete;
  DeviceWait& operator=(const DeviceWait&) = delete;

  // Whether waits for collectives have been enqueued since the last one, in a job that is watched.
  bool is_for_others() const { return is_for_others_; }
  void check() const;

 private:
  bool is_for_others_;
};

// What a rank answers.
struct WaitState {
  int rank = 0;               // of the world, as all ranks here
  bool waits = false;         // in a collective
  bool finished = false;      // its work is done, it waits for the others to end with them
  bool alarmed = false;       // it waits nearly too long, or for a rank that finished
  Collective collective{};    // this and below: where it waits
  std::int64_t sequence = 0;  // which collective of its group, from 1
  std::int64_t bytes = 0;
  int group_size = 0;
  int waits_for = 0;  // a rank of which a message is missing, or kOtherDevices
  double seconds = 0;
};

inline constexpr int kOtherDevices = -1;

// How the World watches waits for the device; null: nobody watches.
struct DeviceWatch {
  std::function<void(const WaitState&)> begin;  // the last collective that the device waits for
  std::function<void()> check, end;
};
void set_device_watch(DeviceWatch watch);

// "all_reduce 212 (1048576 bytes, 2 ranks)"
std::string describe(const WaitState& state);

// `answers` are in rank order; `processes` names every rank of the world ("process 4242 on node7").
std::string describe_hang(const std::vector<WaitState>& answers,
                          const std::vector<std::string>& processes);

}  // namespace polyhead
