// Where this process runs.
#pragma once

#include <string>

namespace polyhead {

// "0-3,8", as taskset -c takes it: what the launcher bound this rank to.
std::string processor_mask();

// "unknown" if the system does not tell.
std::string host_name();

}  // namespace polyhead
