// Constants of the .idx format; data/indexed_dataset.h describes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace polyhead::indexed_format {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kVersionOffset = 9;
constexpr std::size_t kTypeOffset = 17;
constexpr std::size_t kSequenceCountOffset = 18;
constexpr std::size_t kBoundaryCountOffset = 26;
constexpr std::size_t kHeaderBytes = 34;

}  // namespace polyhead::indexed_format
