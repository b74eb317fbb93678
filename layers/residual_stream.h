// What flows from one sub-layer to the next.
#pragma once

#include "framework/tensor.h"

namespace polyhead {

// The hidden state x + branch: the output of the last sub-layer, unless it is in x already, is
// added by the norm in front of the next one, in the pass that reads it anyway.
struct ResidualStream {
  Tensor x;       // (N, D), or empty
  Tensor branch;  // (N, D), or empty
};

}  // namespace polyhead
