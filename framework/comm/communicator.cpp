#include "framework/comm/communicator.h"

#include "framework/error.h"

namespace polyhead {
namespace {

class SoloCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce(Tensor&, Reduction) const override {}
  void all_gather(const Tensor& part, Tensor& whole) const override { whole.copy_from(part); }
  void reduce_scatter(const Tensor& whole, Tensor& part) const override { part.copy_from(whole); }
  void broadcast(Tensor&, int) const override {}
  void barrier() const override {}
  std::vector<std::string> all_gather_strings(const std::string& mine) const override {
    return {mine};
  }
  std::unique_ptr<Communicator> split(int) const override { return make_solo_communicator(); }
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
