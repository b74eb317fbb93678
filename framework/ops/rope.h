// Rotary position embedding (Su et al. 2021), half-rotation layout: dimension j turns with
// j + rotary_dim / 2.
#pragma once

#include <vector>

#include "framework/ops/head_view.h"
#include "framework/tensor.h"

namespace polyhead::ops {

// Rotation angles of every position, times the scaling method's amplitude; in the accumulation
// dtype of what they turn.
struct RopeTable {
  Tensor cos;  // (positions, rotary_dim / 2)
  Tensor sin;  // (positions, rotary_dim / 2)
};

// inverse_frequencies: rotary_dim / 2 numbers; amplitude multiplies cos and sin (YaRN).
RopeTable make_rope_table(const std::vector<double>& inverse_frequencies, double amplitude,
                          std::int64_t positions, DType dtype);

enum class Rotation { kForward, kBackward };

// In place on the first rotary_dim dimensions of every head; row n has position n %
// sequence_length. The backward pass rotates gradients by the opposite angle.
void rope(const RopeTable& table, std::int64_t sequence_length, Rotation rotation, HeadView& x);

// Whether `table` fits sequences of this length and the heads of x; a failed check names what not.
void check_rope(const RopeTable& table, std::int64_t sequence_length, const HeadView& x);

// Specialised per device; arguments are checked.
namespace kernel {
template <Device D>
void rope(const RopeTable& table, std::int64_t sequence_length, Rotation rotation, HeadView& x);
}  // namespace kernel

}  // namespace polyhead::ops
