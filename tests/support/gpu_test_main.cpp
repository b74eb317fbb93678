// The main of tests labelled gpu: without a device they are skipped, never passed.
#include <fmt/format.h>

#include <cstdlib>

#include "framework/comm/launcher.h"
#include "framework/device_system.h"
#include "tests/support/run_tests.h"

int main(int argc, char** argv) {
  using namespace polyhead;
  constexpr int kSkipped = 77;  // SKIP_RETURN_CODE in tests/CMakeLists.txt
  if (const std::string missing = missing_device(Device::kCuda); !missing.empty()) {
    fmt::print("skipped: {}\n", missing);
    return kSkipped;
  }
  DeviceSystem<Device::kCuda>::use(launched_local_rank());
  // Ranks that share a device count as hosts of their own: NCCL then connects them by sockets.
  setenv("NCCL_HOSTID", fmt::format("polyhead-rank-{}", launched_rank()).c_str(), 0);
  setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  return testing::run_tests(argc, argv);
}
