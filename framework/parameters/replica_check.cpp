#include "framework/parameters/replica_check.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

#include "framework/files/content_hash.h"

namespace polyhead {
namespace {

// The content of one rank's slice of one tensor.
struct Fingerprint {
  std::int64_t begin = 0, end = 0;  // the slice
  std::int64_t shard = 0;           // where in the flat buffers the shard begins; 0: not sharded
  std::array<char, 32> hash{};
};

Fingerprint fingerprint(const ParameterStore& store, const Tensor& flat, const Segment& segment) {
  const Parameter& parameter = *segment.parameter;
  const bool sharded = store.is_sharded(flat);
  Fingerprint print{
      parameter.shard_begin, parameter.shard_end, sharded ? store.shard().begin : 0, {}};
  Tensor valid =
      (sharded ? store.held_part(flat, segment) : valid_part(parameter, store.view(flat, segment)))
          .to(Device::kCpu);
  if (!valid.is_contiguous()) valid = valid.clone();
  const std::string hex = content_hash({static_cast<const std::byte*>(valid.raw()), valid.bytes()});
  std::ranges::copy(hex, print.hash.begin());
  return print;
}

// Of the ranks that hold one slice, those without its most frequent content; on a draw the content
// of the lowest rank counts as right.
std::vector<int> deviating_ranks(const std::map<int, std::array<char, 32>>& hash_of_rank) {
  std::map<std::array<char, 32>, std::size_t> votes;
  for (const auto& [rank, hash] : hash_of_rank) ++votes[hash];
  const std::array<char, 32>* winner = &hash_of_rank.begin()->second;
  for (const auto& [rank, hash] : hash_of_rank) {
    if (votes[hash] > votes[*winner]) winner = &hash;
  }
  std::vector<int> deviating;
  for (const auto& [rank, hash] : hash_of_rank) {
    if (hash != *winner) deviating.push_back(rank);
  }
  return deviating;
}

void check_tensor(const std::string& label, const std::vector<Fingerprint>& of_rank) {
  using Part = std::tuple<std::int64_t, std::int64_t, std::int64_t>;
  std::map<Part, std::map<int, std::array<char, 32>>> holders;
  for (std::size_t rank = 0; rank < of_rank.size(); ++rank) {
    const Fingerprint& print = of_rank[rank];
    holders[{print.begin, print.end, print.shard}].emplace(static_cast<int>(rank), print.hash);
  }
  for (const auto& [slice, hash_of_rank] : holders) {
    const std::vector<int> deviating = deviating_ranks(hash_of_rank);
    if (deviating.empty()) continue;
    std::vector<int> agreeing;
    for (const auto& [rank, hash] : hash_of_rank) {
      if (!std::ranges::binary_search(deviating, rank)) agreeing.push_back(rank);
    }
    fail(
        "replicas have drifted apart: {} on rank{} {} differs from rank{} {}; resume from the "
        "last good checkpoint, and suspect the machine of the rank that differs",
        label, deviating.size() > 1 ? "s" : "", fmt::join(deviating, ", "),
        agreeing.size() > 1 ? "s" : "", fmt::join(agreeing, ", "));
  }
}

}  // namespace

void check_replicas(const Communicator& world, const ParameterStore& store,
                    const std::vector<NamedState>& flats) {
  std::vector<Fingerprint> mine;
  for (const NamedState& state : flats) {
    for (const Segment& segment : store.segments()) {
      mine.push_back(fingerprint(store, state.flat, segment));
    }
  }
  std::string message(mine.size() * sizeof(Fingerprint), '\0');
  std::memcpy(message.data(), mine.data(), message.size());
  const std::vector<std::string> messages = world.all_gather_strings(message);

  std::size_t index = 0;
  for (const NamedState& state : flats) {
    for (const Segment& segment : store.segments()) {
      std::vector<Fingerprint> of_rank(messages.size());
      for (std::size_t rank = 0; rank < messages.size(); ++rank) {
        POLYHEAD_CHECK(messages[rank].size() == message.size(), "ranks hold different parameters");
        std::memcpy(&of_rank[rank], messages[rank].data() + index * sizeof(Fingerprint),
                    sizeof(Fingerprint));
      }
      check_tensor(fmt::format("{} ({})", segment.parameter->name, state.name), of_rank);
      ++index;
    }
  }
}

}  // namespace polyhead
