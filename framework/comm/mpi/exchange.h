// The messages of one collective call: posted, then waited for together.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "framework/comm/collective.h"
#include "framework/comm/mpi/watchdog.h"

namespace polyhead::mpi {

// A group's connection. Its messages carry the collective and its number as the tag and are taken
// in the order sent, so ranks that call different collectives, or with different sizes, are told
// apart at no cost.
struct Group {
  MPI_Comm comm = MPI_COMM_NULL;
  std::vector<int> world_ranks;  // by rank of the group
  std::int64_t sequence = 0;     // collectives begun
};

class Exchange {
 public:
  Exchange(Group& group, Watchdog& watchdog, Collective collective, std::size_t bytes);
  ~Exchange() { watchdog_.end(); }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // The memory must stay as it is until wait() returns.
  void send(int peer, const void* data, std::size_t bytes);
  void receive(int peer, void* data, std::size_t bytes);

  // Until all messages posted so far are through; more may be posted then. Spins a little, then
  // leaves the core to other ranks.
  void wait();

 private:
  struct Message {
    int peer;
    int bytes;
    bool incoming;
    bool done;
  };

  void post(int peer, std::size_t bytes, bool incoming);
  void take(int index, const MPI_Status& status, int error);
  int peer_waited_for() const;
  int tag() const;
  [[noreturn]] void fail_disagreement(const Message& message, const MPI_Status& status) const;

  Group& group_;
  Watchdog& watchdog_;
  const std::unique_lock<std::mutex> turn_;
  Collective collective_;
  std::vector<MPI_Request> requests_;
  std::vector<Message> messages_;
};

}  // namespace polyhead::mpi
