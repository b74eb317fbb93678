#include "framework/run/processors.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <array>

namespace polyhead {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

std::string processor_mask() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return "unknown";
  std::string mask;
  for (int first = 0; first < CPU_SETSIZE; ++first) {
    if (!CPU_ISSET(first, &set)) continue;
    int last = first;
    while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set)) ++last;
    mask += fmt::format("{}{}", mask.empty() ? "" : ",", first);
    if (last > first) mask += fmt::format("-{}", last);
    first = last;
  }
  return mask;
}

}  // namespace polyhead
