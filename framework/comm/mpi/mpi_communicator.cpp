#include "framework/comm/mpi/mpi_communicator.h"

#include <algorithm>
#include <cstring>

#include "framework/buffer.h"
#include "framework/comm/mpi/failure.h"
#include "framework/comm/reduction.h"

namespace polyhead::mpi {
namespace {

// Up to this size every rank sends its whole message to all others and adds for itself: one
// exchange in place of two.
constexpr std::size_t kDirectBytes = 16 << 10;

// Longer reductions go segment by segment; what arrives is still in the cache when it is added.
constexpr std::size_t kSegmentBytes = 512 << 10;  // of each rank's share

// Where the contributions of the other ranks arrive.
class Inbox {
 public:
  Inbox(int ranks, std::size_t bytes)
      : bytes_(bytes),
        buffer_(allocate_buffer(static_cast<std::size_t>(ranks) * bytes, Device::kCpu)) {}

  void* slot(int rank) const {
    return static_cast<std::byte*>(buffer_->data()) + static_cast<std::size_t>(rank) * bytes_;
  }
  // All ranks' contributions in rank order, this rank's own taken from where it lies.
  std::vector<const void*> contributions(int ranks, int rank, const void* own) const {
    std::vector<const void*> addresses;
    for (int other = 0; other < ranks; ++other) {
      addresses.push_back(other == rank ? own : slot(other));
    }
    return addresses;
  }

 private:
  std::size_t bytes_;
  std::shared_ptr<Buffer> buffer_;
};

}  // namespace

MpiCommunicator::MpiCommunicator(MPI_Comm comm, int rank, std::vector<int> world_ranks,
                                 Watchdog& watchdog, const MpiCommunicator* split_from)
    : CheckedCommunicator(rank, static_cast<int>(world_ranks.size()), split_from),
      group_{comm, std::move(world_ranks)},
      watchdog_(watchdog) {}

MpiCommunicator::~MpiCommunicator() {
  const auto my_turn = watchdog_.turn();
  MPI_Comm_free(&group_.comm);
}

void MpiCommunicator::reduce_all(void* data, DType dtype, std::int64_t count,
                                 Reduction reduction) const {
  const std::size_t element = size_of(dtype), bytes = static_cast<std::size_t>(count) * element;
  auto* const bytes_of_data = static_cast<std::byte*>(data);
  Exchange exchange(group_, watchdog_, Collective::kAllReduce, bytes);
  if (bytes <= kDirectBytes) {
    const Inbox inbox(size(), bytes);
    for_each_peer([&](int peer) { exchange.receive(peer, inbox.slot(peer), bytes); });
    for_each_peer([&](int peer) { exchange.send(peer, data, bytes); });
    exchange.wait();
    reduce_in_order(inbox.contributions(size(), rank(), data), dtype, reduction, count, data);
    return;
  }
  // Each rank reduces its share of the segment and sends the result to all.
  const auto segment = static_cast<std::int64_t>(kSegmentBytes / element) * size();
  const Inbox inbox(size(), kSegmentBytes);
  for (std::int64_t begin = 0; begin < count; begin += segment) {
    const std::int64_t length = std::min(segment, count - begin);
    const auto share_begin = [&](int owner) {
      return static_cast<std::size_t>(begin + length * owner / size()) * element;
    };
    const auto share_bytes = [&](int owner) { return share_begin(owner + 1) - share_begin(owner); };
    void* const own = bytes_of_data + share_begin(rank());
    const std::size_t own_bytes = share_bytes(rank());

    for_each_peer([&](int peer) { exchange.receive(peer, inbox.slot(peer), own_bytes); });
    for_each_peer([&](int peer) {
      exchange.send(peer, bytes_of_data + share_begin(peer), share_bytes(peer));
    });
    exchange.wait();
    reduce_in_order(inbox.contributions(size(), rank(), own), dtype, reduction,
                    static_cast<std::int64_t>(own_bytes / element), own);
    for_each_peer([&](int peer) {
      exchange.receive(peer, bytes_of_data + share_begin(peer), share_bytes(peer));
    });
    for_each_peer([&](int peer) { exchange.send(peer, own, own_bytes); });
    exchange.wait();
  }
}

void MpiCommunicator::reduce_part(const void* whole, DType dtype, std::int64_t count,
                                  void* part) const {
  const std::size_t element = size_of(dtype), bytes = static_cast<std::size_t>(count) * element;
  const auto rows_of = [&](int owner) {
    return static_cast<const std::byte*>(whole) + static_cast<std::size_t>(owner) * bytes;
  };
  Exchange exchange(group_, watchdog_, Collective::kReduceScatter, bytes);
  const Inbox inbox(size(), std::min(bytes, kSegmentBytes));
  for (std::size_t begin = 0; begin == 0 || begin < bytes; begin += kSegmentBytes) {
    const std::size_t length = std::min(kSegmentBytes, bytes - begin);
    for_each_peer([&](int peer) { exchange.receive(peer, inbox.slot(peer), length); });
    for_each_peer([&](int peer) { exchange.send(peer, rows_of(peer) + begin, length); });
    exchange.wait();
    reduce_in_order(inbox.contributions(size(), rank(), rows_of(rank()) + begin), dtype,
                    Reduction::kSum, static_cast<std::int64_t>(length / element),
                    static_cast<std::byte*>(part) + begin);
  }
}

void MpiCommunicator::gather_all(const void* part, std::size_t bytes, void* whole) const {
  const auto rows_of = [&](int owner) {
    return static_cast<std::byte*>(whole) + static_cast<std::size_t>(owner) * bytes;
  };
  Exchange exchange(group_, watchdog_, Collective::kAllGather, bytes);
  for_each_peer([&](int peer) { exchange.receive(peer, rows_of(peer), bytes); });
  for_each_peer([&](int peer) { exchange.send(peer, part, bytes); });
  if (rows_of(rank()) != part) std::memcpy(rows_of(rank()), part, bytes);
  exchange.wait();
}

void MpiCommunicator::send_from(int root, void* data, std::size_t bytes) const {
  Exchange exchange(group_, watchdog_, Collective::kBroadcast, bytes);
  if (rank() == root) {
    for_each_peer([&](int peer) { exchange.send(peer, data, bytes); });
  } else {
    exchange.receive(root, data, bytes);
  }
  exchange.wait();
}

void MpiCommunicator::wait_for_all() const {
  Exchange exchange(group_, watchdog_, Collective::kBarrier, 0);
  for_each_peer([&](int peer) { exchange.receive(peer, nullptr, 0); });
  for_each_peer([&](int peer) { exchange.send(peer, nullptr, 0); });
  exchange.wait();
}

std::vector<std::string> MpiCommunicator::gather_strings(const std::string& mine) const {
  Exchange exchange(group_, watchdog_, Collective::kAllGatherStrings, mine.size());
  std::vector<std::size_t> lengths(static_cast<std::size_t>(size()), mine.size());
  for_each_peer([&](int peer) {
    exchange.receive(peer, &lengths[static_cast<std::size_t>(peer)], sizeof(std::size_t));
  });
  const std::size_t own_length = mine.size();
  for_each_peer([&](int peer) { exchange.send(peer, &own_length, sizeof(std::size_t)); });
  exchange.wait();

  std::vector<std::string> all(static_cast<std::size_t>(size()), mine);
  for_each_peer([&](int peer) {
    std::string& text = all[static_cast<std::size_t>(peer)];
    text.resize(lengths[static_cast<std::size_t>(peer)]);
    exchange.receive(peer, text.data(), text.size());
  });
  for_each_peer([&](int peer) { exchange.send(peer, mine.data(), mine.size()); });
  exchange.wait();
  return all;
}

std::unique_ptr<Communicator> MpiCommunicator::make_split(int color) const {
  // After this exchange every rank is about to call MPI_Comm_split, which no watchdog guards.
  std::vector<int> colors(static_cast<std::size_t>(size()), color);
  {
    Exchange exchange(group_, watchdog_, Collective::kSplit, sizeof(int));
    for_each_peer([&](int peer) {
      exchange.receive(peer, &colors[static_cast<std::size_t>(peer)], sizeof(int));
    });
    const int own_color = color;
    for_each_peer([&](int peer) { exchange.send(peer, &own_color, sizeof(int)); });
    exchange.wait();
  }
  std::vector<int> world_ranks;
  int new_rank = 0;
  for (int other = 0; other < size(); ++other) {
    if (colors[static_cast<std::size_t>(other)] != color) continue;
    if (other == rank()) new_rank = static_cast<int>(world_ranks.size());
    world_ranks.push_back(group_.world_ranks[static_cast<std::size_t>(other)]);
  }
  // MPI's colours are not negative; the place of a colour's first rank is one.
  const auto first = std::find(colors.begin(), colors.end(), color);
  MPI_Comm comm = MPI_COMM_NULL;
  const auto my_turn = watchdog_.turn();
  require_success(
      MPI_Comm_split(group_.comm, static_cast<int>(first - colors.begin()), rank(), &comm),
      "MPI_Comm_split");
  return std::make_unique<MpiCommunicator>(comm, new_rank, std::move(world_ranks), watchdog_, this);
}

}  // namespace polyhead::mpi
