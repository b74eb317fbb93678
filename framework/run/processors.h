// The processors that this process may run on.
#pragma once

#include <string>

namespace polyhead {

// "0-3,8", as taskset -c takes it: what the launcher bound this rank to.
std::string processor_mask();

}  // namespace polyhead
