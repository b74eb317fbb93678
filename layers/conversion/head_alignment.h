// Turning heads towards each other before they are pooled (Jin et al., "Align Attention Heads
// Before Merging Them", 2024).
//
// Values: o_proj undoes any orthogonal matrix that v_proj's rows of one head are multiplied by.
// Keys: the scores q k^T stay the same where q and k of a head are multiplied by one orthogonal
// matrix that commutes with the rotary embedding, which turns pairs of dimensions: an angle for
// each pair, and any matrix among the dimensions that are not rotated. With norms on q and k, which
// weight every dimension, only dimensions of equal weights may mix. So alignment alone changes no
// output of the model.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "framework/tensor.h"

namespace polyhead {

// Orthogonal matrices that a head's dimensions may be multiplied by. Dimensions in neither list
// stay as they are.
struct RotationFreedom {
  std::vector<std::pair<std::int64_t, std::int64_t>> pairs;  // (a, b) turns by an angle
  std::vector<std::vector<std::int64_t>> blocks;             // any matrix among these dimensions

  std::int64_t dimensions() const;  // that are free
};

// Of values: every dimension mixes with every other.
RotationFreedom value_freedom(std::int64_t head_dim);
// Of queries and keys, of which the first rotary_dim dimensions rotate, j with j + rotary_dim / 2.
// The weights of the norms of q and k, (head_dim) each, may be empty: no norms.
RotationFreedom key_freedom(std::int64_t head_dim, std::int64_t rotary_dim,
                            const Tensor& query_norm, const Tensor& key_norm);

// The allowed R that minimises ||R W - M||_C, from products = M C W^T, (head_dim, head_dim) f64:
// by singular values for a block (Procrustes), by the argument of a complex number for a pair.
Tensor best_rotation(const Tensor& products, const RotationFreedom& freedom);

struct MemberAlignment {
  std::vector<Tensor> rotations;  // (head_dim, head_dim) f64, one for each member: W becomes R W
  // sum_m ||R_m W_m - M||_C^2 with M the mean of R_m W_m, after each sweep; never increasing.
  std::vector<double> objective;
};

// Aligns the members of one group: all with the medoid, then with their mean, until that settles,
// at most 10 sweeps. products (members * head_dim, members * head_dim) f64 = W C W^T of the members
// below each other. A sweep costs members^2 head_dim^3 operations.
MemberAlignment align_members(const Tensor& products, std::int64_t members,
                              const RotationFreedom& freedom);

// The member with the least sum of distances ||W_m - W_n||_C to the others; the first of equals.
std::int64_t medoid(const Tensor& products, std::int64_t members);

// <W_m, W_n>_C = tr(W_m C W_n^T).
double inner_product(const Tensor& products, std::int64_t members, std::int64_t m, std::int64_t n);

// products of R_m W_m, from those of W_m.
Tensor rotated_products(const Tensor& products, const std::vector<Tensor>& rotations);

}  // namespace polyhead
