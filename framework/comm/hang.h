// When communication stops: how long a rank waits, and the one message that tells why.
//
// MPI waits for ever for a rank that was stopped, loops or left early. Here a rank that has waited
// nearly `communication_timeout` seconds asks all others what they do; those that wait answer. The
// lowest rank that waited so long prints the message below and ends the job. A rank that works for
// long while others wait, such as one that writes a checkpoint, tells them so: still_working().
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
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

// Devices also exchange messages among themselves. A host whose device waits in vain meets that
// anywhere in the driver: where it reads a result, launches more than a queue holds, loads code, or
// connects. So the World has a thread that looks out for it, and asks and answers in the host's
// place from when a collective was enqueued on this rank's device until the host has waited for the
// end of all that was. The host must wait for that before it turns to other work that lasts.
void enqueued_on_device(Collective collective, std::int64_t bytes, int group_size);
// The device may wait for the last of them once more: recorded work was enqueued again, what comes
// next was put behind it, or its group ends.
void enqueued_on_device_again();
std::int64_t collectives_enqueued();
void device_has_ended();

struct DeviceWork {
  WaitState last;  // the collective enqueued last
  std::chrono::steady_clock::time_point since;
};
// Nothing where the device has ended.
std::optional<DeviceWork> unfinished_device_work();

// "all_reduce 212 (1048576 bytes, 2 ranks)"
std::string describe(const WaitState& state);

// `answers` are in rank order; `processes` names every rank of the world ("process 4242 on node7").
std::string describe_hang(const std::vector<WaitState>& answers,
                          const std::vector<std::string>& processes);

}  // namespace polyhead
