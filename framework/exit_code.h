// How a process ends, the same on all its ranks.
#pragma once

namespace polyhead {

enum ExitCode : int {
  kExitSuccess = 0,
  kExitFailure = 1,
  kExitConfiguration = 2,  // a command line or a configuration that cannot be used
  kExitHang = 3,           // a rank stopped answering
};

}  // namespace polyhead
