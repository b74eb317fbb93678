#include "framework/comm/mpi/exchange.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "framework/comm/mpi/failure.h"
#include "framework/exit_code.h"

namespace polyhead::mpi {
namespace {

// Longer messages travel in pieces: MPI counts in int, and pieces overlap.
constexpr std::size_t kPiece = std::size_t{4} << 20;

// Every MPI has at least 32768 tags: 8 collectives times the sequence modulo this.
constexpr std::int64_t kTagSequences = 4096;
static_assert(kCollectives <= 8);

// How often a wait looks before it offers its core to others, and before it sleeps between looks:
// about 30 microseconds and a few milliseconds.
constexpr int kSpins = 100;
constexpr int kYields = 10000;
constexpr auto kSleep = std::chrono::microseconds(50);

}  // namespace

Exchange::Exchange(Group& group, Watchdog& watchdog, Collective collective, std::size_t bytes)
    : group_(group), watchdog_(watchdog), turn_(watchdog.turn()), collective_(collective) {
  ++group_.sequence;
  watchdog_.begin(collective, group_.sequence, static_cast<std::int64_t>(bytes),
                  static_cast<int>(group_.world_ranks.size()));
}

int Exchange::tag() const {
  return static_cast<int>(group_.sequence % kTagSequences * 8) + static_cast<int>(collective_);
}

void Exchange::send(int peer, const void* data, std::size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(data);
  for (std::size_t offset = 0; offset == 0 || offset < bytes; offset += kPiece) {
    const std::size_t length = std::min(kPiece, bytes - offset);
    post(peer, length, /*incoming=*/false);
    require_success(MPI_Isend(begin + offset, static_cast<int>(length), MPI_BYTE, peer, tag(),
                              group_.comm, &requests_.back()),
                    "MPI_Isend");
  }
}

void Exchange::receive(int peer, void* data, std::size_t bytes) {
  auto* begin = static_cast<std::byte*>(data);
  for (std::size_t offset = 0; offset == 0 || offset < bytes; offset += kPiece) {
    const std::size_t length = std::min(kPiece, bytes - offset);
    post(peer, length, /*incoming=*/true);
    require_success(MPI_Irecv(begin + offset, static_cast<int>(length), MPI_BYTE, peer, MPI_ANY_TAG,
                              group_.comm, &requests_.back()),
                    "MPI_Irecv");
  }
}

void Exchange::post(int peer, std::size_t bytes, bool incoming) {
  messages_.push_back({peer, static_cast<int>(bytes), incoming, false});
  requests_.push_back(MPI_REQUEST_NULL);
}

void Exchange::wait() {
  const int count = static_cast<int>(requests_.size());
  std::vector<int> indices(requests_.size());
  std::vector<MPI_Status> statuses(requests_.size());
  int left = count;
  for (int looks = 0; left > 0; ++looks) {
    int done = 0;
    const int code = MPI_Testsome(count, requests_.data(), &done, indices.data(), statuses.data());
    const bool errors_in_statuses = code == MPI_ERR_IN_STATUS;
    if (!errors_in_statuses) require_success(code, "MPI_Testsome");
    for (int i = 0; i < done; ++i) {
      const MPI_Status& status = statuses[static_cast<std::size_t>(i)];
      take(indices[static_cast<std::size_t>(i)], status,
           errors_in_statuses ? status.MPI_ERROR : MPI_SUCCESS);
    }
    left -= done;
    if (done > 0 || looks < kSpins) continue;
    if (looks < kSpins + kYields) {
      sched_yield();
      continue;
    }
    std::this_thread::sleep_for(kSleep);
    watchdog_.check(peer_waited_for());
  }
  requests_.clear();
  messages_.clear();
}

void Exchange::take(int index, const MPI_Status& status, int error) {
  Message& message = messages_[static_cast<std::size_t>(index)];
  message.done = true;
  int kind = MPI_SUCCESS;
  MPI_Error_class(error, &kind);
  // A message that is too long comes from a rank that calls something else.
  if (kind != MPI_ERR_TRUNCATE) require_success(error, "MPI_Testsome");
  if (!message.incoming) return;
  int bytes = 0;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  if (status.MPI_TAG != tag() || bytes != message.bytes || kind == MPI_ERR_TRUNCATE) {
    fail_disagreement(message, status);
  }
}

int Exchange::peer_waited_for() const {
  // A send to a rank that is gone waits too, but what is missing says more.
  const auto missing = [&](bool incoming) {
    return std::find_if(messages_.begin(), messages_.end(), [&](const Message& message) {
      return !message.done && message.incoming == incoming;
    });
  };
  auto message = missing(true);
  if (message == messages_.end()) message = missing(false);
  return group_.world_ranks[static_cast<std::size_t>(message->peer)];
}

void Exchange::fail_disagreement(const Message& message, const MPI_Status& status) const {
  const int mine = watchdog_.rank();
  const int other = group_.world_ranks[static_cast<std::size_t>(message.peer)];
  int bytes = 0;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  const std::int64_t ahead =
      (status.MPI_TAG / 8 - group_.sequence % kTagSequences + kTagSequences) % kTagSequences;
  const std::int64_t behind = ahead > kTagSequences / 2 ? ahead - kTagSequences : ahead;
  end_job_once(
      fmt::format(
          "the ranks of a group call different collectives: rank {} {} {} (awaits {} bytes), "
          "rank {} {} {} (sends {} bytes)",
          mine, name_of(collective_), group_.sequence, message.bytes, other,
          name_of(static_cast<Collective>(status.MPI_TAG % 8)), group_.sequence + behind, bytes),
      kExitFailure);
}

}  // namespace polyhead::mpi
