// What a configuration says of where samples come from and in which order.
#pragma once

#include <string>

namespace polyhead {

enum class SampleOrder { kPolyhead, kMegatron };

struct DataSource {
  std::string path;  // prefix of .bin and .idx
  double weight = 1.0;
};

}  // namespace polyhead
