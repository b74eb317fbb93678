#include "framework/comm/communicator.h"

#include "framework/comm/checked_communicator.h"
#include "framework/error.h"

namespace polyhead {
namespace {

class SoloCommunicator final : public CheckedCommunicator {
 public:
  explicit SoloCommunicator(const SoloCommunicator* split_from)
      : CheckedCommunicator(0, 1, split_from) {}

 private:
  void reduce_all(void*, DType, std::int64_t, Reduction) const override {}
  void gather_all(const void*, std::size_t, void*) const override {}
  void reduce_part(const void*, DType, std::int64_t, void*) const override {}
  void send_from(int, void*, std::size_t) const override {}
  void wait_for_all() const override {}
  std::vector<std::string> gather_strings(const std::string& mine) const override { return {mine}; }
  std::unique_ptr<Communicator> make_split(int) const override {
    return std::make_unique<SoloCommunicator>(this);
  }
};

constexpr char kConfiguration = 'c', kOther = 'o';

// Empty without a failure, else its kind and its message.
std::string encode(const std::exception_ptr& failure) {
  if (!failure) return {};
  try {
    std::rethrow_exception(failure);
  } catch (const ConfigurationError& error) {
    return kConfiguration + std::string(error.what());
  } catch (const std::exception& error) {
    return kOther + std::string(error.what());
  }
}

}  // namespace

std::unique_ptr<Communicator> make_solo_communicator() {
  return std::make_unique<SoloCommunicator>(nullptr);
}

void throw_if_any_failed(const Communicator& communicator, const std::exception_ptr& failure) {
  const std::vector<std::string> failures = communicator.all_gather_strings(encode(failure));
  std::size_t failed = 0, first = 0;
  for (std::size_t rank = failures.size(); rank-- > 0;) {
    if (failures[rank].empty()) continue;
    ++failed;
    first = rank;
  }
  if (failed == 0) return;
  std::string message = failures[first].substr(1);
  if (failed < failures.size()) message = fmt::format("rank {}: {}", first, message);
  if (failures[first].front() == kConfiguration) throw ConfigurationError(message);
  throw Error(message);
}

}  // namespace polyhead
