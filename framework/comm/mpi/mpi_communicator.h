// A group of processes.
//
// The collectives are made of point-to-point messages, not of MPI's collectives: those add in an
// order that depends on the library, the number of ranks and the message, and wait for ever.
#pragma once

#include <cstdint>

#include "framework/comm/checked_communicator.h"
#include "framework/comm/mpi/exchange.h"

namespace polyhead::mpi {

class MpiCommunicator final : public CheckedCommunicator {
 public:
  // Takes over `comm`.
  MpiCommunicator(MPI_Comm comm, int rank, std::vector<int> world_ranks, Watchdog& watchdog,
                  const MpiCommunicator* split_from);
  ~MpiCommunicator() override;

 private:
  void reduce_all(void* data, DType dtype, std::int64_t count, Reduction reduction) const override;
  void gather_all(const void* part, std::size_t bytes, void* whole) const override;
  void reduce_part(const void* whole, DType dtype, std::int64_t count, void* part) const override;
  void send_from(int root, void* data, std::size_t bytes) const override;
  void wait_for_all() const override;
  std::vector<std::string> gather_strings(const std::string& mine) const override;
  std::unique_ptr<Communicator> make_split(int color) const override;

  // Calls act(peer) for all other ranks, each rank in another order so that no one is flooded.
  template <class Act>
  void for_each_peer(Act&& act) const {
    for (int step = 1; step < size(); ++step) act((rank() + step) % size());
  }

  mutable Group group_;
  Watchdog& watchdog_;
};

}  // namespace polyhead::mpi
