// The collectives by name, and how much each was used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string_view>

namespace polyhead {

enum class Collective {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kReduce,
  kBroadcast,
  kBarrier,
  kAllGatherStrings,
  kSplit,
};
inline constexpr std::size_t kCollectives = 8;

constexpr std::string_view name_of(Collective collective) {
  constexpr std::array<std::string_view, kCollectives> kNames = {
      "all_reduce", "all_gather", "reduce_scatter",     "reduce",
      "broadcast",  "barrier",    "all_gather_strings", "split"};
  return kNames[static_cast<std::size_t>(collective)];
}

// Calls of one rank, and the bytes of payload it sent in them.
struct CommunicationCount {
  std::int64_t calls = 0;
  std::int64_t bytes = 0;

  friend CommunicationCount operator+(const CommunicationCount& a, const CommunicationCount& b) {
    return {a.calls + b.calls, a.bytes + b.bytes};
  }
  friend CommunicationCount operator-(const CommunicationCount& a, const CommunicationCount& b) {
    return {a.calls - b.calls, a.bytes - b.bytes};
  }
};

class CommunicationCounters {
 public:
  void add(Collective collective, std::int64_t bytes) {
    CommunicationCount& count = counts_[static_cast<std::size_t>(collective)];
    ++count.calls;
    count.bytes += bytes;
  }
  const CommunicationCount& operator[](Collective collective) const {
    return counts_[static_cast<std::size_t>(collective)];
  }
  CommunicationCount total() const {
    return std::accumulate(counts_.begin(), counts_.end(), CommunicationCount{});
  }

 private:
  std::array<CommunicationCount, kCollectives> counts_{};
};

}  // namespace polyhead
