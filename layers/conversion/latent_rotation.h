// Gathers the rotation of all groups' keys in one shared key (RoRoPE of TransMLA, Meng et al.
// 2025).
//
// The rotation turns pair j of every group by the same angle, so it commutes with a unitary mixing
// of the groups' pairs j, each seen as one complex number. The principal components of these under
// E[x x^T] are the mixing that puts most of the keys' energy where it may keep rotating: the first
// component is pair j of a shared key. What is left of each group's key keeps its energy, and loses
// its rotation.
//
// A shared key with fewer pairs takes `fold` neighbouring frequencies as one, the first of them,
// which is what a table for fewer dimensions has. One with more pairs, a multiple, keeps as many
// components in segments of equal frequencies (rotary_segments), all of them with G segments:
// nothing is lost then.
#pragma once

#include "layers/conversion/latent_layer.h"

namespace polyhead {

struct SharedRotation {
  Tensor shared_key;         // (K_r, D), half-split
  Tensor query_rope;         // (H K_r, D): what meets the shared key
  Tensor rest;               // (G K, D): of each group, without rotation
  double kept_energy = 0.0;  // of the rotated dimensions' E[|k|^2], a share
};

// How target_dim rotated dimensions hold those of a head.
struct RotaryFold {
  std::int64_t fold = 1;      // neighbouring frequencies taken as one
  std::int64_t segments = 1;  // components kept of each
};
// Throws Error unless target_dim is even and divides heads.rotary_dim, or is a multiple of it up to
// heads.groups times.
RotaryFold rotary_fold(const GroupedHeads& heads, std::int64_t target_dim);

// covariance (D, D): E[x x^T], positive semidefinite. One eigenproblem of 2 G fold dimensions per
// pair of the target.
SharedRotation gather_rotation(const GroupedLayer& layer, const GroupedHeads& heads,
                               const Tensor& covariance, std::int64_t target_dim);

}  // namespace polyhead
