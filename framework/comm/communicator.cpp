#include "framework/comm/communicator.h"

#include <cstring>

#include "framework/comm/checked_communicator.h"
#include "framework/error.h"

namespace polyhead {
namespace {

class SoloCommunicator final : public CheckedCommunicator {
 public:
  SoloCommunicator() : CheckedCommunicator(0, 1) {}
  explicit SoloCommunicator(std::shared_ptr<CommunicationCounters> counters)
      : CheckedCommunicator(0, 1, std::move(counters)) {}

 private:
  void reduce_all(void*, DType, std::int64_t, Reduction) const override {}
  void gather_all(const void* part, std::size_t bytes, void* whole) const override {
    if (whole != part) std::memcpy(whole, part, bytes);
  }
  void reduce_part(const void* whole, DType dtype, std::int64_t count, void* part) const override {
    gather_all(whole, static_cast<std::size_t>(count) * size_of(dtype), part);
  }
  void send_from(int, void*, std::size_t) const override {}
  void wait_for_all() const override {}
  std::vector<std::string> gather_strings(const std::string& mine) const override { return {mine}; }
  std::unique_ptr<Communicator> make_split(int) const override {
    return std::make_unique<SoloCommunicator>(counters_);
  }
};

}  // namespace

std::unique_ptr<Communicator> make_solo_communicator() {
  return std::make_unique<SoloCommunicator>();
}

void throw_if_any_failed(const Communicator& communicator, const std::string& failure) {
  const std::vector<std::string> failures = communicator.all_gather_strings(failure);
  std::size_t failed = 0, first = 0;
  for (std::size_t rank = failures.size(); rank-- > 0;) {
    if (failures[rank].empty()) continue;
    ++failed;
    first = rank;
  }
  if (failed == 0) return;
  if (failed == failures.size()) throw Error(failures[first]);
  fail("rank {}: {}", first, failures[first]);
}

}  // namespace polyhead
