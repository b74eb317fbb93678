// The instructions of the tensor-core attention kernels, sm_80 and later: asynchronous copies,
// matrix loads, mma.sync m16n8k16, and what the backward's ordered sums need. Private to
// framework/ops.
//
// Who holds what of a product, with g = lane / 4 and t = lane % 4:
//   A, 16 x 16  word 0: row g, columns 2t and 2t + 1;  word 1: row g + 8;  words 2, 3: columns + 8
//   B, 16 x 8   word 0: rows 2t and 2t + 1, column g;  word 1: rows + 8
//   C, 16 x 8   elements 0, 1: row g, columns 2t and 2t + 1;  elements 2, 3: row g + 8
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "framework/cuda/element.cuh"
#include "framework/cuda/launch.cuh"
#include "framework/cuda/math.cuh"

namespace polyhead::ops::attention_bf16 {

using bf16 = __nv_bfloat16;
using cuda::power_of_two;

// An operand A of 16 x 16, or two operands B side by side: 16 x 16 as well.
struct Fragment {
  std::uint32_t word[4];
};

// A product C of 16 x 8 in f32.
struct Sum {
  float element[4] = {};
};

// The number of the thread, read anew: an instruction where a register is dearer.
__device__ __forceinline__ int read_thread() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;\n" : "=r"(thread));
  return thread;
}

// Lane 0's value, which the compiler then keeps, with all that follows from it, in the registers of
// the warp.
__device__ __forceinline__ int same_in_warp(int value) {
  return __shfl_sync(0xffffffffu, value, 0);
}

// The same value, of which the compiler no longer knows what it was computed from, or what from it:
// so that something is computed again rather than kept in registers.
__device__ __forceinline__ int read_again(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// Begins to copy 16 bytes to shared memory, or writes zeros without a look at `from`.
__device__ __forceinline__ void copy_chunk_async(std::uint32_t to, const bf16* from, bool inside) {
  const int bytes = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
// Waits for all copies of this thread.
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_all;\n" ::: "memory");
}

// Four 8 x 8 matrices; lanes 8 i to 8 i + 7 have the addresses of the rows of matrix i.
__device__ __forceinline__ Fragment load_matrices(std::uint32_t row) {
  Fragment f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(f.word[0]), "=r"(f.word[1]), "=r"(f.word[2]), "=r"(f.word[3])
               : "r"(row)
               : "memory");
  return f;
}
__device__ __forceinline__ Fragment load_matrices_transposed(std::uint32_t row) {
  Fragment f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(f.word[0]), "=r"(f.word[1]), "=r"(f.word[2]), "=r"(f.word[3])
               : "r"(row)
               : "memory");
  return f;
}

__device__ __forceinline__ void multiply_add(const Fragment& a, std::uint32_t b0, std::uint32_t b1,
                                             Sum& c) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(c.element[0]), "+f"(c.element[1]), "+f"(c.element[2]), "+f"(c.element[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b0), "r"(b1));
}

// Both rounded to nearest even, `low` in the lower half.
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

__device__ __forceinline__ void store_shared(std::uint32_t to, std::uint32_t word) {
  asm volatile("st.shared.b32 [%0], %1;\n" ::"r"(to), "r"(word) : "memory");
}
__device__ __forceinline__ void store_shared(std::uint32_t to, std::uint16_t element) {
  asm volatile("st.shared.b16 [%0], %1;\n" ::"r"(to), "h"(element) : "memory");
}
__device__ __forceinline__ std::uint16_t load_shared_element(std::uint32_t from) {
  std::uint16_t element;
  asm volatile("ld.shared.b16 %0, [%1];\n" : "=h"(element) : "r"(from) : "memory");
  return element;
}
__device__ __forceinline__ uint4 load_shared_chunk(std::uint32_t from) {
  uint4 chunk;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(chunk.x), "=r"(chunk.y), "=r"(chunk.z), "=r"(chunk.w)
               : "r"(from)
               : "memory");
  return chunk;
}
__device__ __forceinline__ cuda::Pack<bf16> load_shared_pack(std::uint32_t from) {
  const uint4 chunk = load_shared_chunk(from);
  return reinterpret_cast<const cuda::Pack<bf16>&>(chunk);
}
__device__ __forceinline__ void store_shared_pack(std::uint32_t to, const cuda::Pack<bf16>& pack) {
  const uint4& chunk = reinterpret_cast<const uint4&>(pack);
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};\n" ::"r"(to), "r"(chunk.x), "r"(chunk.y),
               "r"(chunk.z), "r"(chunk.w)
               : "memory");
}

// Four floats that lie together: written, or added one by one without waiting for the result.
__device__ __forceinline__ void write_sum(float* to, const Sum& sum) {
  *reinterpret_cast<float4*>(to) =
      make_float4(sum.element[0], sum.element[1], sum.element[2], sum.element[3]);
}
__device__ __forceinline__ void add_sum(float* to, const Sum& sum) {
#if __CUDA_ARCH__ >= 900
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1,%2,%3,%4};\n" ::"l"(to),
               "f"(sum.element[0]), "f"(sum.element[1]), "f"(sum.element[2]), "f"(sum.element[3])
               : "memory");
#else
  for (int i = 0; i < 4; ++i) atomicAdd(to + i, sum.element[i]);
#endif
}

__device__ __forceinline__ int load_shared_int(std::uint32_t from) {
  int value;
  asm volatile("ld.shared.b32 %0, [%1];\n" : "=r"(value) : "r"(from) : "memory");
  return value;
}

// A word that blocks pass on: what a block wrote before its fence and its store is seen by one that
// read the stored value and then fenced.
__device__ __forceinline__ int load_flag(const int* flag) {
  int value;
  asm volatile("ld.relaxed.gpu.global.b32 %0, [%1];\n" : "=r"(value) : "l"(flag) : "memory");
  return value;
}
__device__ __forceinline__ void store_flag(int* flag, int value) {
  asm volatile("st.relaxed.gpu.global.b32 [%0], %1;\n" ::"l"(flag), "r"(value) : "memory");
}
__device__ __forceinline__ void fence_device() {
  asm volatile("fence.acq_rel.gpu;\n" ::: "memory");
}

}  // namespace polyhead::ops::attention_bf16
