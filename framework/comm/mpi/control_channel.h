// Messages between ranks beside the collectives, for the moments when those do not come to an end.
#pragma once

#include <mpi.h>

#include <deque>
#include <optional>
#include <string>

#include "framework/comm/hang.h"

namespace polyhead::mpi {

enum class ControlKind {
  kQuestion,  // what do you do?
  kAnswer,
  kWorking,   // this rank is alive, although it is in no collective
  kFinished,  // this rank's work is done
  kFailed,    // this rank failed, with its message
};

struct ControlMessage {
  ControlKind kind{};
  int inquiry = 0;        // which question this is, or is the answer to
  WaitState state;        // of the sender
  std::string text = {};  // of a failure
};

// Sends are never waited for; a stopped receiver stops nobody else.
class ControlChannel {
 public:
  ControlChannel();
  ~ControlChannel();
  ControlChannel(const ControlChannel&) = delete;
  ControlChannel& operator=(const ControlChannel&) = delete;

  int rank() const { return rank_; }  // of the world
  int size() const { return size_; }

  void send_to_all_others(const ControlMessage& message);
  void send(int rank, const ControlMessage& message);
  std::optional<ControlMessage> receive();  // the next that has arrived

 private:
  struct Sending {
    std::string bytes;
    MPI_Request request;
  };

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  std::deque<Sending> sending_;
};

}  // namespace polyhead::mpi
