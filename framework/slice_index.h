// Where the elements of a slice lie in the tensor it was cut from: what random numbers are counted
// by, so that they do not depend on how tensors are sharded.
#pragma once

#include <cstdint>

namespace polyhead {

struct SliceIndex {
  std::int64_t first = 0;          // the slice's element 0, counted in the whole tensor
  std::int64_t columns = 1;        // of the slice
  std::int64_t whole_columns = 1;  // of the whole tensor

  constexpr std::int64_t at(std::int64_t row, std::int64_t column) const {
    return first + row * whole_columns + column;
  }
};

}  // namespace polyhead
