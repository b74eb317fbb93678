// Communicator: a group of ranks and the collectives between them.
//
// Always an argument, never a global. Size 1 is not a special case: every collective is then a
// no-op or a copy. All ranks of a group call the same collectives in the same order.
//
// Sums add the ranks' contributions in rank order, whatever the transport and the number of threads
// or hosts, so solo, thread and MPI groups of one size give the same bits, run after run.
// Cost of each call, for a message of n bytes on P ranks: all_reduce sends 2n(P-1)/P bytes a rank,
// all_gather and reduce_scatter half of that, reduce n bytes from all but the root. Where reduce
// does not run beside the computation it costs what all_reduce does, and a copy.
//
// What begins with start_ runs beside the computation where runs_beside says so; elsewhere it has
// ended when the call returns. Either way the device carries out the collectives of all its groups
// one after the other, in the order of their calls: a short one waits for a long one that was
// started before it, and a second one may be started on the result of the first before that was
// waited for.
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/comm/collective.h"
#include "framework/comm/pending_collective.h"
#include "framework/tensor.h"

namespace polyhead {

enum class Reduction { kSum, kMax };

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // In place on a contiguous tensor of f32, f64, bf16 or i32, on the host or the device. The
  // maximum is NaN where any rank's is.
  [[nodiscard]] virtual PendingCollective start_all_reduce(
      Tensor& tensor, Reduction reduction = Reduction::kSum) const = 0;
  void all_reduce(Tensor& tensor, Reduction reduction = Reduction::kSum) const {
    start_all_reduce(tensor, reduction).wait();
  }
  // whole (P*n, ...) receives the ranks' part (n, ...) in rank order; both contiguous. Here and in
  // reduce_scatter `part` may be this rank's own rows of `whole`.
  [[nodiscard]] virtual PendingCollective start_all_gather(const Tensor& part,
                                                           Tensor& whole) const = 0;
  void all_gather(const Tensor& part, Tensor& whole) const { start_all_gather(part, whole).wait(); }
  // part (n, ...) receives this rank's rows of the sum of the ranks' whole (P*n, ...).
  [[nodiscard]] virtual PendingCollective start_reduce_scatter(const Tensor& whole,
                                                               Tensor& part) const = 0;
  void reduce_scatter(const Tensor& whole, Tensor& part) const {
    start_reduce_scatter(whole, part).wait();
  }
  // In place: the root's tensor becomes the sum of the ranks', the others' stay as they are.
  [[nodiscard]] virtual PendingCollective start_reduce(Tensor& tensor, int root) const = 0;
  void reduce(Tensor& tensor, int root) const { start_reduce(tensor, root).wait(); }
  virtual void broadcast(Tensor& tensor, int root) const = 0;
  virtual void barrier() const = 0;

  // Small host messages of any length: every rank receives all ranks' strings in rank order.
  virtual std::vector<std::string> all_gather_strings(const std::string& mine) const = 0;

  // From now on collectives of this group, and of groups split from it later, move device tensors
  // directly between the devices where these have a way (NCCL). Without it, or where ranks share a
  // device, they go through host memory. Collective.
  virtual void connect_devices() const = 0;
  // Whether collectives of tensors on `device` can run beside its computation: it is connected.
  virtual bool runs_beside(Device device) const = 0;

  // Ranks with the same colour form a new group, ordered by their rank here. Collective.
  virtual std::unique_ptr<Communicator> split(int color) const = 0;

  // What this rank sent so far through this group and the groups split from it.
  const CommunicationCounters& counters() const { return *counters_; }

 protected:
  std::shared_ptr<CommunicationCounters> counters_ = std::make_shared<CommunicationCounters>();
};

// The group of one.
std::unique_ptr<Communicator> make_solo_communicator();

// Runs `work` on every rank of the group and throws the same Error on all of them if any failed:
// the message of the lowest failing rank, named when it is not the only one of its kind. So a
// problem that only some ranks can see (a file, a token, a disk) is told once, and no rank is left
// waiting in a collective. A ConfigurationError stays one.
template <class Work>
void run_on_all_ranks(const Communicator& communicator, Work&& work);

// The part of run_on_all_ranks behind the template: `failure` is null where the work succeeded.
void throw_if_any_failed(const Communicator& communicator, const std::exception_ptr& failure);

template <class Work>
void run_on_all_ranks(const Communicator& communicator, Work&& work) {
  std::exception_ptr failure;
  try {
    work();
  } catch (const std::exception&) {
    failure = std::current_exception();
  }
  throw_if_any_failed(communicator, failure);
}

}  // namespace polyhead
