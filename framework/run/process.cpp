#include "framework/run/process.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <thread>

#include "framework/comm/launcher.h"
#include "framework/comm/world.h"
#include "framework/error.h"

namespace polyhead {
namespace {

struct Failure {
  std::string message;
  int exit_code;
};

// Inside a handler: what to tell of the exception.
Failure current_failure() {
  try {
    throw;
  } catch (const ConfigurationError& error) {
    return {error.what(), kExitConfiguration};
  } catch (const std::bad_alloc&) {
    return {"out of memory", kExitFailure};
  } catch (const std::exception& error) {
    return {error.what(), kExitFailure};
  }
}

int end_failed(const World& world, const Failure& failure) {
  const int rank = world.communicator().rank();
  const std::vector<std::string> failures = world.exchange_failures(failure.message);
  const auto failed = [](const std::string& message) { return !message.empty(); };
  const auto first = std::find_if(failures.begin(), failures.end(), failed);
  const bool first_is_this = first - failures.begin() == rank;
  const bool alone = failures.size() == 1;
  const bool alike = std::count(failures.begin(), failures.end(), *first) ==
                     static_cast<std::ptrdiff_t>(failures.size());
  if (first_is_this) {
    print_error(alone || alike ? failure.message
                               : fmt::format("rank {}: {}", rank, failure.message));
  }
  if (std::all_of(failures.begin(), failures.end(), failed)) return failure.exit_code;
  // The rank that prints ends the others; should it fail to, every failed rank does.
  if (!first_is_this) std::this_thread::sleep_for(std::chrono::seconds(1));
  world.abort(failure.exit_code);
}

}  // namespace

int run_process(int argc, char** argv, const ProcessMain& work) {
  try {
    const World world(argc, argv);
    try {
      return work(argc, argv, world.communicator());
    } catch (const std::exception&) {
      return end_failed(world, current_failure());
    }
  } catch (const std::exception&) {
    // The ranks could not be connected: all of them find the same.
    const Failure failure = current_failure();
    if (launched_rank() == 0) print_error(failure.message);
    return failure.exit_code;
  }
}

}  // namespace polyhead
