// What a block of the backward pass on Hopper consists of: its tiles in shared memory, and where a
// thread's sums of dq, dk and dv lie. Private to framework/ops.
#pragma once

#include "framework/ops/attention_bf16_backward.cuh"
#include "framework/ops/attention_hopper_backward_items.cuh"
#include "framework/ops/attention_hopper_forward.cuh"

namespace polyhead::ops::attention_bf16 {

template <int kQkDim, int kVDim>
struct HopperBackwardShape {
  static constexpr int kQueries = kRowBlock, kKeys = kHopperBackwardKeys;
  static constexpr int kGroups = kKeys / 64, kThreads = 128 * (kGroups + 1);
  static constexpr int kReaders = 4 * kGroups;  // warps
  // Where dK and dV leave registers for it, S^T of the next step is computed while a step ends;
  // else a step takes its queries in two parts.
  static constexpr bool kScoresAhead = kQkDim <= 128;
  static constexpr int kPart = kScoresAhead ? kQueries : kQueries / 2;
  // Where they leave them for dQ too, that of a step is computed and added during the next one. And
  // where shared memory holds the next keys, a block of threads stays and takes one item after
  // another, so that what an item begins with is fetched while another ends.
  static constexpr bool kAddsLate = kQkDim <= 64, kStays = kQkDim <= 128;
  static constexpr int kStages = kAddsLate ? 4 : 2, kKeyStages = kStays ? 2 : 1;
  static constexpr int kBlocks = 1;  // on a multiprocessor

  using KTile = Panels<kKeys, kQkDim>;
  using VTile = Panels<kKeys, kVDim>;
  using QTile = Panels<kQueries, kQkDim>;
  using DoutTile = Panels<kQueries, kVDim>;
  using ScoreTile = Panels<kKeys, kQueries>;  // dS^T
  struct QueryTiles {
    static constexpr int kStatisticsBytes = 4 * kQueries;
    static constexpr int kUsedBytes = QTile::kBytes + DoutTile::kBytes + 2 * kStatisticsBytes;
    static constexpr int kBytes = (kUsedBytes + 1023) / 1024 * 1024;

    std::uint32_t address;

    __device__ __forceinline__ QTile q() const { return {address}; }
    __device__ __forceinline__ DoutTile dout() const { return {address + QTile::kBytes}; }
    __device__ __forceinline__ std::uint32_t lse() const {
      return address + QTile::kBytes + DoutTile::kBytes;
    }
    __device__ __forceinline__ std::uint32_t delta() const { return lse() + kStatisticsBytes; }
  };
  using QueryRing = Ring<QueryTiles, kStages>;
  struct KeyTiles {
    static constexpr int kBytes = KTile::kBytes + VTile::kBytes;

    std::uint32_t address;

    __device__ __forceinline__ KTile k() const { return {address}; }
    __device__ __forceinline__ VTile v() const { return {address + KTile::kBytes}; }
  };
  using KeyRing = Ring<KeyTiles, kKeyStages>;
  using Item = BackwardItem<kKeys, kQueries>;
  static constexpr int kTileBytes = KeyRing::kBytes + QueryRing::kBytes + 2 * ScoreTile::kBytes;
  static constexpr int kSharedBytes = kTileBytes + PlaceRing::kBytes + KeyRing::kBarrierBytes +
                                      QueryRing::kBarrierBytes + PlaceRing::kBarrierBytes + 3 * 8;
  static constexpr int kDqSums = kQueries * kQkDim;  // floats of a block

  // Of dq a warp group computes half the dimensions: the first or last of the panels, and of an odd
  // number of panels half the one in the middle.
  static constexpr int kPanels = kQkDim / 64, kWholeDims = kPanels / 2 * 64;
  static constexpr int kSharedDims = kPanels % 2 * 32;
  __device__ __forceinline__ static int first_whole_dim(int group) {
    return group == 0 ? 0 : kQkDim - kWholeDims;
  }
  __device__ __forceinline__ static int first_shared_dim(int group) {
    return kWholeDims + kSharedDims * group;
  }
};

// A block's shared memory.
template <class Shape>
struct BackwardMemory {
  __device__ __forceinline__ explicit BackwardMemory(std::uint32_t first_tile)
      : keys{first_tile, first_tile + Shape::kTileBytes + PlaceRing::kBytes},
        ds(first_tile + Shape::KeyRing::kBytes),
        queries{ds + 2 * Shape::ScoreTile::kBytes, keys.barriers + Shape::KeyRing::kBarrierBytes},
        places{first_tile + Shape::kTileBytes, queries.barriers + Shape::QueryRing::kBarrierBytes},
        ds_stored{places.barriers + PlaceRing::kBarrierBytes},
        turn_came{ds_stored.address + 8},
        turn_used{ds_stored.address + 16} {}

  __device__ __forceinline__ void initialize() const {
    keys.initialize(Shape::kGroups);
    queries.initialize(32 * Shape::kReaders);  // lanes, each of which has read statistics
    places.initialize(Shape::kReaders + 2);
    ds_stored.initialize(Shape::kReaders);
    turn_came.initialize(2);
    turn_used.initialize(Shape::kReaders);
    publish_barriers();
  }

  typename Shape::KeyRing keys;
  std::uint32_t ds;  // dS of two steps
  typename Shape::QueryRing queries;
  PlaceRing places;
  Barrier ds_stored, turn_came, turn_used;  // a phase for each step
};

// Where the sums of dq lie that thread t holds: element i of the j-th at 4 (256 j + t) + i, those
// of whole panels before the others.
template <int kQkDim, int kVDim>
struct HopperDqLayout {
  using Shape = HopperBackwardShape<kQkDim, kVDim>;
  static constexpr int kRows = Shape::kQueries, kDim = kQkDim, kThreads = 128 * Shape::kGroups;
  static constexpr int kM = 1, kN = kDim / 16;

  __device__ __forceinline__ static int row(int thread, int) {
    return thread % 128 / 32 * 16 + thread % 32 / 4;
  }
  __device__ __forceinline__ static int column(int thread, int n) {
    const int group = thread / 128, dim = 8 * n;
    const int first = dim < Shape::kWholeDims
                          ? Shape::first_whole_dim(group) + dim
                          : Shape::first_shared_dim(group) + dim - Shape::kWholeDims;
    return first + thread % 4 * 2;
  }
};

// The same for dk and dv, of which a thread has whole rows.
template <int kDimension>
struct HopperKeyLayout {
  static constexpr int kRows = kHopperBackwardKeys, kDim = kDimension, kThreads = 2 * kRows;
  static constexpr int kM = 1, kN = kDim / 8;

  __device__ __forceinline__ static int row(int thread, int) {
    return thread / 32 * 16 + thread % 32 / 4;
  }
  __device__ __forceinline__ static int column(int thread, int n) { return 8 * n + thread % 4 * 2; }
};

}  // namespace polyhead::ops::attention_bf16
