#pragma once

#include <string_view>

namespace polyhead {

enum class Device { kCpu, kCuda };

constexpr std::string_view name_of(Device device) {
  return device == Device::kCpu ? "cpu" : "cuda";
}

}  // namespace polyhead
