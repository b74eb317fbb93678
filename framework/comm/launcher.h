// Who started this process: what mpirun and its kin put into the environment.
#pragma once

#include <optional>

namespace polyhead {

// The number of ranks that the launcher started (1 if it does not tell); none if the process was
// started alone. Throws Error for tasks of srun that have no way to find each other.
std::optional<int> launched_ranks();

// This process' place among them; 0 if it was started alone.
int launched_rank();

// Its place among those on the same host; 0 if the launcher does not tell.
int launched_local_rank();

}  // namespace polyhead
