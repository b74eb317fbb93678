#include <algorithm>

#include "framework/cuda/packs.cuh"
#include "framework/cuda/reduce.cuh"
#include "framework/ops/embedding_order.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

using cuda::Divider;
using cuda::Pack;

template <class T, int kSize>
struct Lookup {
  static constexpr int kBatch = 4;
  struct Input {
    Pack<T, kSize> entry;
    bool here;
  };

  Divider row_packs;
  const std::int32_t* ids;
  std::int64_t first_id, valid_rows;
  float factor;
  const T* table;
  std::int64_t table_stride;
  T* y;
  std::int64_t y_stride;

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const auto [token, pack] = row_packs(index);
    const std::int64_t row = ids[token] - first_id;
    Input input;
    input.here = row >= 0 && row < valid_rows;
    if (input.here) {
      input.entry = cuda::load_pack<T, kSize>(table + row * table_stride + pack * kSize);
    }
    return input;
  }
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [token, pack] = row_packs(index);
    Pack<T, kSize> result;
    result.assign([&](int i) { return input.here ? input.entry[i] * factor : 0.0f; });
    cuda::store_pack(result, y + token * y_stride + pack * kSize);
  }
};

// The gradient. Tokens are ordered by their rows of the table; neighbours of one row are a run.
// Blocks take tiles of kTile tokens. A run inside a tile is summed and added to its row there; of a
// run that crosses into other tiles each tile leaves its piece, and a second kernel adds up the
// pieces. So a row gets its summands in an order that the ids alone decide, and a frequent token
// keeps many blocks busy.
constexpr int kTile = 32;
constexpr int kThreads = 256;      // of a tile, at most
constexpr int kPieceThreads = 64;  // that add up pieces
enum Piece { kOfEarlierRun, kOfNewRun, kPieces };

struct Runs {
  const std::int32_t* rows;    // of the table, ascending; at least valid_rows where not here
  const std::int32_t* tokens;  // in order within a row
  std::int64_t count;
  std::int64_t valid_rows;
  std::int64_t columns;
  float factor;
  float* pieces;  // (tiles, kPieces, columns)
  float* dtable;
  std::int64_t dtable_stride;

  __device__ __forceinline__ float* piece(std::int64_t tile, Piece which) const {
    return pieces + (tile * kPieces + which) * columns;
  }
  template <int kSize>
  __device__ __forceinline__ void add(const Pack<float, kSize>& before, const float (&sum)[kSize],
                                      float* to) const {
    Pack<float, kSize> result;
    result.assign([&](int i) { return fmaf(factor, sum[i], before[i]); });
    cuda::store_pack(result, to);
  }
};

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads)
    tile_kernel(const T* dy, std::int64_t dy_stride, const Runs runs) {
  __shared__ std::int32_t tokens[kTile];
  __shared__ std::int32_t rows[kTile + 1];  // and the first of the next tile
  __shared__ bool begun_earlier;            // the first run
  const std::int64_t tile = blockIdx.x;
  for (int i = static_cast<int>(threadIdx.x); i <= kTile; i += static_cast<int>(blockDim.x)) {
    const std::int64_t place = tile * kTile + i;
    const bool exists = place < runs.count;
    rows[i] = exists ? runs.rows[place] : static_cast<std::int32_t>(runs.valid_rows);
    if (i < kTile) tokens[i] = exists ? runs.tokens[place] : 0;
    if (i == 0) begun_earlier = tile > 0 && runs.rows[place - 1] == rows[0];
  }
  __syncthreads();
  const std::int64_t column =
      (static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * kSize;
  if (column >= runs.columns) return;

  const auto is_here = [&](int i) { return rows[i] < runs.valid_rows; };
  const auto ends_run = [&](int i) { return rows[i] != rows[i + 1]; };
  const auto is_of_earlier_run = [&](int i) { return begun_earlier && rows[i] == rows[0]; };
  const auto entry = [&](int i) { return runs.dtable + rows[i] * runs.dtable_stride + column; };
  float sum[kSize] = {};
  const auto leave_piece = [&](Piece which) {
    Pack<float, kSize> piece;
    piece.assign([&](int i) { return sum[i]; });
    cuda::store_pack(piece, runs.piece(tile, which) + column);
  };

  constexpr int kBatch = 4;
  static_assert(kTile % kBatch == 0);
  for (int first = 0; first < kTile && is_here(first); first += kBatch) {
    Pack<T, kSize> gradient[kBatch];
    Pack<float, kSize> before[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int i = first + k;
      if (!is_here(i)) continue;
      gradient[k] = cuda::load_pack<T, kSize>(dy + tokens[i] * dy_stride + column);
      if (ends_run(i) && !is_of_earlier_run(i)) {
        before[k] = cuda::load_pack<float, kSize>(entry(i));
      }
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int i = first + k;
      if (!is_here(i)) continue;
#pragma unroll
      for (int j = 0; j < kSize; ++j) sum[j] += gradient[k][j];
      if (!ends_run(i)) continue;
      if (is_of_earlier_run(i)) {
        leave_piece(kOfEarlierRun);
      } else {
        runs.add(before[k], sum, entry(i));
      }
#pragma unroll
      for (int j = 0; j < kSize; ++j) sum[j] = 0;
    }
  }
  constexpr int kLast = kTile - 1;
  if (is_here(kLast) && !ends_run(kLast)) {
    leave_piece(is_of_earlier_run(kLast) ? kOfEarlierRun : kOfNewRun);
  }
}

// The block of the tile in which a run begins that does not end there adds up the run's pieces.
template <int kSize>
__global__ void __launch_bounds__(kPieceThreads) piece_kernel(const Runs runs) {
  const std::int64_t tile = blockIdx.x, begin = tile * kTile, end = begin + kTile;
  const std::int64_t column =
      (static_cast<std::int64_t>(blockIdx.y) * kPieceThreads + threadIdx.x) * kSize;
  if (end >= runs.count || column >= runs.columns) return;
  const std::int32_t row = runs.rows[end];
  const bool is_cut = row < runs.valid_rows && runs.rows[end - 1] == row;
  if (!is_cut || (tile > 0 && runs.rows[begin - 1] == row)) return;

  std::int64_t inside = end, behind = runs.count;  // the run's last place lies in [inside, behind)
  while (behind - inside > 1) {
    const std::int64_t middle = (inside + behind) / 2;
    (runs.rows[middle] == row ? inside : behind) = middle;
  }
  float sum[kSize];
  const auto first = cuda::load_pack<float, kSize>(runs.piece(tile, kOfNewRun) + column);
#pragma unroll
  for (int j = 0; j < kSize; ++j) sum[j] = first[j];
#pragma unroll 8
  for (std::int64_t later = tile + 1; later <= inside / kTile; ++later) {
    const auto piece = cuda::load_pack<float, kSize>(runs.piece(later, kOfEarlierRun) + column);
#pragma unroll
    for (int j = 0; j < kSize; ++j) sum[j] += piece[j];
  }
  float* const entry = runs.dtable + row * runs.dtable_stride + column;
  runs.add(cuda::load_pack<float, kSize>(entry), sum, entry);
}

unsigned pieces(std::int64_t whole, std::int64_t piece) {
  return static_cast<unsigned>((whole + piece - 1) / piece);
}

}  // namespace

template <>
void Embedding<Device::kCuda>::forward(const Tensor& ids, const Tensor& table,
                                       std::int64_t first_id, std::int64_t valid_rows,
                                       double factor, Tensor& y) {
  cuda::dispatch_float(y.dtype(), [&]<class T>() {
    const bool aligned =
        cuda::is_aligned(table) && cuda::is_aligned(y) && cuda::is_whole_packs<T>(y.cols());
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
      const Lookup<T, kSize> body{Divider(y.cols() / kSize),
                                  ids.data<std::int32_t>(),
                                  first_id,
                                  valid_rows,
                                  static_cast<float>(factor),
                                  table.data<T>(),
                                  table.row_stride(),
                                  y.data<T>(),
                                  y.row_stride()};
      cuda::for_each_pack("embedding_forward", y.numel() / kSize, body);
    });
  });
}

template <>
void Embedding<Device::kCuda>::backward(const Tensor& dy, const Tensor& ids, std::int64_t first_id,
                                        std::int64_t valid_rows, double factor, Tensor& dtable) {
  const std::int64_t count = ids.numel(), columns = dy.cols();
  if (count == 0 || columns == 0 || valid_rows == 0) return;
  const TokenOrder order = order_by_row(ids, first_id, valid_rows);
  const unsigned tiles = pieces(count, kTile);
  Tensor cut = Tensor::empty({tiles, kPieces, columns}, DType::kF32, Device::kCuda);
  const Runs runs{order.rows.data<std::int32_t>(),
                  order.tokens.data<std::int32_t>(),
                  count,
                  valid_rows,
                  columns,
                  static_cast<float>(factor),
                  cut.data<float>(),
                  dtable.data<float>(),
                  dtable.row_stride()};
  const cudaStream_t stream = cuda::Context::instance().stream();
  cuda::dispatch_float(dy.dtype(), [&]<class T>() {
    const auto launch = [&]<int kSize>() {
      const std::int64_t packs = columns / kSize;
      const unsigned warps = pieces(std::min<std::int64_t>(packs, kThreads), cuda::kWarpSize);
      const unsigned threads = warps * cuda::kWarpSize;
      tile_kernel<T, kSize><<<dim3(tiles, pieces(packs, threads)), threads, 0, stream>>>(
          dy.data<T>(), dy.row_stride(), runs);
      cuda::check_launch("embedding_backward: tiles");
      piece_kernel<kSize>
          <<<dim3(tiles, pieces(packs, kPieceThreads)), kPieceThreads, 0, stream>>>(runs);
      cuda::check_launch("embedding_backward: pieces");
    };
    // Four elements, whatever their size: so many of dtable make 16 bytes.
    constexpr int kSize = 4;
    const bool aligned =
        columns % kSize == 0 && cuda::is_aligned(dtable) && cuda::is_aligned(dy, kSize * sizeof(T));
    aligned ? launch.template operator()<kSize>() : launch.template operator()<1>();
  });
}

}  // namespace polyhead::ops::kernel
