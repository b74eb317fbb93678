// The instructions of Hopper's attention kernels (sm_90a): products of tiles by a warp group of 128
// threads, tiles copied by the tensor memory accelerator, and the barriers where these report.
// Private to framework/ops.
//
// A product C (64, N) = A (64, 16) B (16, N) is issued and later waited for. Warp w of the group
// holds rows 16 w to 16 w + 15 of C, and of an A in registers, each 16 x 8 of C and 16 x 16 of A as
// attention_mma.cuh has it.
#pragma once

#include <cuda.h>

#include "framework/ops/attention_mma.cuh"

namespace polyhead::ops::attention_bf16 {

// A tile in panels of kRows x 64 elements, side by side in its dimensions. A row of a panel has 128
// bytes, whose 16-byte chunks are exchanged by the row's number as the 128-byte swizzle does.
template <int kRowCount, int kDimension>
struct Panels {
  static constexpr int kRows = kRowCount, kDim = kDimension;
  static constexpr int kPanelBytes = 128 * kRows, kBytes = kPanelBytes * kDim / 64;
  static_assert(kDim % 64 == 0 && kRows % 8 == 0);

  // The address of a multiple of 1024 bytes.
  std::uint32_t address;

  // Eight dimensions from 8 index on of a row.
  __device__ __forceinline__ std::uint32_t chunk(int row, int index) const {
    return address + index / 8 * kPanelBytes + row * 128 + ((index ^ row) & 7) * 16;
  }
  // One side of a product that has its rows (of B: columns) in the tile's rows from `row` on, and
  // as its depth the tile's dimensions 16 depth to 16 depth + 15.
  __device__ __forceinline__ std::uint64_t by_rows(int row, int depth) const {
    return descriptor(depth / 4 * kPanelBytes + row * 128 + depth % 4 * 32);
  }
  // One side that has its rows or columns in the tile's dimensions from `dimension` on, and its
  // depth in the tile's rows 16 depth to 16 depth + 15.
  __device__ __forceinline__ std::uint64_t by_dimensions(int dimension, int depth) const {
    return descriptor(dimension / 64 * kPanelBytes + dimension % 64 * 2 + depth * 2048);
  }

  // Writes sums times `factor`, rounded to bf16. Of rows row and row + 8 the thread has columns
  // 8 (kFirst + n) + 2 (lane % 4) and the next.
  template <int kFirst = 0, int kN>
  __device__ __forceinline__ void store(int row, int lane, const Sum (&c)[kN], float factor) const {
    const std::uint32_t first = address + row * 128 + (row & 7) * 16 + lane % 4 * 4;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const float* const e = c[n].element;
      const std::uint32_t to = (first ^ (kFirst + n) % 8 * 16) + (kFirst + n) / 8 * kPanelBytes;
      store_shared(to, pack(factor * e[0], factor * e[1]));
      store_shared(to + 8 * 128, pack(factor * e[2], factor * e[3]));
    }
  }

 private:
  // PTX ISA, matrix descriptor: the address, the distance of panels, that of groups of eight rows
  // (all in units of 16 bytes) and the swizzle. One addition to what is the same for the tile, as
  // the address of shared memory has no more bits than its field.
  __device__ __forceinline__ std::uint64_t descriptor(std::uint32_t offset) const {
    constexpr std::uint32_t kPanels = kPanelBytes / 16 << 16;
    constexpr std::uint64_t kRowsAndSwizzle = std::uint64_t{1024 / 16 | 1u << 30} << 32;
    return kRowsAndSwizzle | ((address / 16 | kPanels) + offset / 16);
  }
};

#define POLYHEAD_SUM(n) \
  "+f"(c[n].element[0]), "+f"(c[n].element[1]), "+f"(c[n].element[2]), "+f"(c[n].element[3])
#define POLYHEAD_FOUR_SUMS(n) \
  POLYHEAD_SUM(n), POLYHEAD_SUM(n + 1), POLYHEAD_SUM(n + 2), POLYHEAD_SUM(n + 3)
#define POLYHEAD_C_16 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}"
#define POLYHEAD_C_32                                                                       \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23," \
  "%24,%25,%26,%27,%28,%29,%30,%31}"
#define POLYHEAD_C_64                                                                        \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"  \
  "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45," \
  "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"
#define POLYHEAD_C_96                                                                        \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"  \
  "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45," \
  "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67," \
  "%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89," \
  "%90,%91,%92,%93,%94,%95}"
// With `c` of N columns, and operands behind it: A, B, whether c is added to, and flags.
#define POLYHEAD_PRODUCT(columns, c_list, a, b, add, flags)                             \
  "{\n.reg .pred adds;\nsetp.ne.b32 adds, " add                                         \
  ", 0;\n"                                                                              \
  "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 " c_list ", " a ", " b \
  ", adds, 1, 1, " flags ";\n}\n"

// Begins c = A B, or c += A B, with both in shared memory. kA or kB by dimensions: their
// descriptors are from by_dimensions.
template <bool kAByDimensions, bool kBByDimensions, int kN>
__device__ __forceinline__ void begin_product(std::uint64_t a, std::uint64_t b, Sum (&c)[kN],
                                              bool add) {
  static_assert(kN == 4 || kN == 8 || kN == 16);
  const int adds = add ? 1 : 0;
  if constexpr (kN == 4) {
    asm volatile(POLYHEAD_PRODUCT("32", POLYHEAD_C_16, "%16", "%17", "%18", "%19, %20")
                 : POLYHEAD_FOUR_SUMS(0)
                 : "l"(a), "l"(b), "r"(adds), "n"(kAByDimensions), "n"(kBByDimensions));
  } else if constexpr (kN == 8) {
    asm volatile(POLYHEAD_PRODUCT("64", POLYHEAD_C_32, "%32", "%33", "%34", "%35, %36")
                 : POLYHEAD_FOUR_SUMS(0), POLYHEAD_FOUR_SUMS(4)
                 : "l"(a), "l"(b), "r"(adds), "n"(kAByDimensions), "n"(kBByDimensions));
  } else {
    asm volatile(POLYHEAD_PRODUCT("128", POLYHEAD_C_64, "%64", "%65", "%66", "%67, %68")
                 : POLYHEAD_FOUR_SUMS(0), POLYHEAD_FOUR_SUMS(4), POLYHEAD_FOUR_SUMS(8),
                   POLYHEAD_FOUR_SUMS(12)
                 : "l"(a), "l"(b), "r"(adds), "n"(kAByDimensions), "n"(kBByDimensions));
  }
}

// The same with A in registers and B by dimensions; c is added to.
template <int kN>
__device__ __forceinline__ void begin_product(const Fragment& a, std::uint64_t b, Sum (&c)[kN]) {
  static_assert(kN == 8 || kN == 16 || kN == 24);
  if constexpr (kN == 8) {
    asm volatile(POLYHEAD_PRODUCT("64", POLYHEAD_C_32, "{%32,%33,%34,%35}", "%36", "%37", "%38")
                 : POLYHEAD_FOUR_SUMS(0), POLYHEAD_FOUR_SUMS(4)
                 : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "l"(b), "r"(1),
                   "n"(1));
  } else if constexpr (kN == 16) {
    asm volatile(POLYHEAD_PRODUCT("128", POLYHEAD_C_64, "{%64,%65,%66,%67}", "%68", "%69", "%70")
                 : POLYHEAD_FOUR_SUMS(0), POLYHEAD_FOUR_SUMS(4), POLYHEAD_FOUR_SUMS(8),
                   POLYHEAD_FOUR_SUMS(12)
                 : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "l"(b), "r"(1),
                   "n"(1));
  } else {
    asm volatile(POLYHEAD_PRODUCT("192", POLYHEAD_C_96, "{%96,%97,%98,%99}", "%100", "%101", "%102")
                 : POLYHEAD_FOUR_SUMS(0), POLYHEAD_FOUR_SUMS(4), POLYHEAD_FOUR_SUMS(8),
                   POLYHEAD_FOUR_SUMS(12), POLYHEAD_FOUR_SUMS(16), POLYHEAD_FOUR_SUMS(20)
                 : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "l"(b), "r"(1),
                   "n"(1));
  }
}

#undef POLYHEAD_PRODUCT
#undef POLYHEAD_C_96
#undef POLYHEAD_C_64
#undef POLYHEAD_C_32
#undef POLYHEAD_C_16
#undef POLYHEAD_FOUR_SUMS
#undef POLYHEAD_SUM

// Before the first product of a group: registers written so far are seen by the products.
__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
// Products since the last call form a group.
__device__ __forceinline__ void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
// Keeps reads and writes of sums from moving over this point.
template <int kN>
__device__ __forceinline__ void pin(Sum (&c)[kN]) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(c[n].element[i])::"memory");
  }
}
// Waits for all but the last kPending groups, whose sums are `c`.
template <int kPending, class... Sums>
__device__ __forceinline__ void wait_for_products(Sums&... c) {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
  (pin(c), ...);
}

// Side A of depth 16 from sums that lie in registers, rounded to bf16.
template <int kN>
__device__ __forceinline__ Fragment fragment_of(const Sum (&c)[kN], int depth) {
  const float *const left = c[2 * depth].element, *const right = c[2 * depth + 1].element;
  return {{pack(left[0], left[1]), pack(left[2], left[3]), pack(right[0], right[1]),
           pack(right[2], right[3])}};
}

// A barrier in shared memory, 8 bytes. Its phases are counted from 0; one ends when all arrivals
// have come, and all the bytes that were announced.
struct Barrier {
  std::uint32_t address;

  __device__ __forceinline__ void initialize(int arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(address), "r"(arrivals)
                 : "memory");
  }
  __device__ __forceinline__ void arrive() const {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(address) : "memory");
  }
  __device__ __forceinline__ void arrive_and_announce(int bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(address),
                 "r"(bytes)
                 : "memory");
  }
  // Waits for the end of a phase, of which only the lowest bit counts.
  __device__ __forceinline__ void wait(int phase) const {
    std::uint32_t done;
    do {
      asm volatile(
          "{\n.reg .pred done;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
          "selp.u32 %0, 1, 0, done;\n}\n"
          : "=r"(done)
          : "r"(address), "r"(phase & 1)
          : "memory");
    } while (done == 0);
  }
};
// What one thread initialized is seen by the copies, after a barrier by all threads too.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
// What this thread wrote to shared memory is seen by products and copies that come after a barrier.
__device__ __forceinline__ void publish_shared() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}
// Of `threads` of the block, all that name `id`.
__device__ __forceinline__ void synchronize(int id, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

template <int kCount>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kCount));
}

// Begins to copy a box of (64 dimensions, one head, the map's rows, one sequence) to a panel; rows
// and dimensions beyond the ends are zeros.
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap& from, int dimension,
                                         int head, int row, int batch, Barrier barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];\n" ::"r"(to),
      "l"(&from), "r"(barrier.address), "r"(dimension), "r"(head), "r"(row), "r"(batch)
      : "memory");
}
// The other way; what lies beyond the ends is not written.
__device__ __forceinline__ void store_box(std::uint32_t from, const CUtensorMap& to, int dimension,
                                          int head, int row, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%1, {%2, %3, %4, %5}], [%0];\n" ::"r"(
          from),
      "l"(&to), "r"(dimension), "r"(head), "r"(row), "r"(batch)
      : "memory");
}
// Until the stores of this thread have read shared memory.
__device__ __forceinline__ void wait_for_stores() {
  asm volatile(
      "cp.async.bulk.commit_group;\n"
      "cp.async.bulk.wait_group.read 0;\n" ::
          : "memory");
}
// Begins to copy a multiple of 16 bytes.
__device__ __forceinline__ void copy_bytes(std::uint32_t to, const void* from, int bytes,
                                           Barrier barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier.address)
      : "memory");
}
__device__ __forceinline__ float2 load_shared_pair(std::uint32_t from) {
  float2 pair;
  asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];\n"
               : "=f"(pair.x), "=f"(pair.y)
               : "r"(from)
               : "memory");
  return pair;
}

}  // namespace polyhead::ops::attention_bf16
