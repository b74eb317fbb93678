// Signals that ask a running job to save or to stop.
//
// USR1: save and go on. USR2, TERM, INT: finish the step, save, exit with 0. A second INT ends the
// process at once. A launcher delivers a signal to the ranks at slightly different times, or to one
// of them only; poll() makes all ranks act on it after the same step.
#pragma once

#include <array>
#include <csignal>

#include "framework/comm/communicator.h"

namespace polyhead {

// The larger one wins when ranks were asked for different things; a stop saves too.
enum class SignalRequest { kNone, kSave, kStop };

class Signals {
 public:
  Signals();   // from here on signals only leave a note
  ~Signals();  // puts back what handled them before
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // What any rank was asked for since the last call, the same on all ranks. Collective: an
  // all_reduce of 4 bytes.
  SignalRequest poll(const Communicator& world);

 private:
  static constexpr std::size_t kSignals = 4;
  std::array<struct sigaction, kSignals> before_;
};

}  // namespace polyhead
