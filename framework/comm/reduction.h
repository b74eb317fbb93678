// The arithmetic of all_reduce and reduce_scatter, the same for every transport.
#pragma once

#include <cstdint>
#include <span>

#include "framework/comm/communicator.h"
#include "framework/dtype.h"

namespace polyhead {

// result[i] = ((x_0[i] + x_1[i]) + x_2[i]) + ... over the contributions x_r, in the order given, in
// their dtype (bf16: each sum rounded); or their maximum, which is NaN where any is. `result` may
// be one of the contributions.
void reduce_in_order(std::span<const void* const> contributions, DType dtype, Reduction reduction,
                     std::int64_t count, void* result);

}  // namespace polyhead
