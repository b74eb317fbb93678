// Forward pass in bf16 on Hopper (FlashAttention-3, Shah et al. 2024), for what needs no general
// code (attention_bf16_instances.h). An item of a block's work is kQueries rows of one head; two
// warp groups, the readers, have 64 of them each, and the third fetches for them as far ahead as
// shared memory holds, the next item too, and stores out (attention_hopper_forward_fetch.cuh). The
// softmax of one block of keys runs while the tensor cores are at the weights and values of the
// block before. Private to framework/ops.
#pragma once

#include "framework/ops/attention_hopper_forward_fetch.cuh"

namespace polyhead::ops::attention_bf16 {

template <int kQkDim, int kVDim>
__global__ void __launch_bounds__(HopperForwardShape<kQkDim, kVDim>::kThreads,
                                  HopperForwardShape<kQkDim, kVDim>::kBlocks)
    hopper_forward_kernel(const __grid_constant__ Arguments a,
                          const __grid_constant__ Schedule schedule,
                          const __grid_constant__ ForwardMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  cuda::wait_for_work_before();
  using Shape = HopperForwardShape<kQkDim, kVDim>;
  using Item = ForwardItem<Shape>;
  constexpr int kKeys = Shape::kKeys, kReaders = Shape::kReaders;
  extern __shared__ __align__(1024) unsigned char dynamic_memory[];
  const ForwardMemory<Shape> memory(shared_address(dynamic_memory));
  if (threadIdx.x == 0) memory.initialize();
  __syncthreads();
  const int warp = same_in_warp(static_cast<int>(threadIdx.x) / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (warp >= kReaders) {
    give_registers<24>();
    if (lane != 0) return;
    if (warp == kReaders) {
      fetch_items(a, schedule, maps, memory);
    } else if (warp == kReaders + 1) {
      store_out(a, maps, memory);
    }
    return;
  }
  take_registers<Shape::kRegisters>();

  const int group_row = warp / 4 * 64;  // of this warp group, in the tile
  const Place<1, 1> place_in_tile(static_cast<int>(threadIdx.x), warp, 0);
  int first_use = 0;  // of the keys and values of the item
  for (int item_use = 0;; ++item_use) {
    const ItemPlace place = next_place(memory.places, item_use);
    if (place.column < 0) break;
    const Item item(a, place);
    const auto q_tile = memory.q.tile(item_use);
    const int group_first = item.first + group_row;
    const int position = a.query_offset + group_first;
    const int last_position = a.query_offset + min(group_first + 64, a.queries) - 1;
    // The uses of the rings that this warp group computes; the others it lets pass.
    const bool has_rows = group_first < a.queries;
    const int end_use = first_use + item.count;
    const auto use_of = [&](int key_block) {
      return min(first_use + item.end_block - key_block, end_use);
    };
    const int begin = has_rows ? use_of(Item::end_block_of(a, group_first + 64)) : end_use;
    const int end = has_rows ? use_of(Item::first_block_of(a, group_first)) : end_use;
    const ScoreOptions options(a, item.head);
    Softmax<1> softmax;
    Sum score[1][kKeys / 8], out[1][kVDim / 8];
    Fragment weights[kKeys / 16];

    const auto pass = [&](int use) {
      memory.k.wait_full(use);
      memory.k.release(use);
      memory.v.wait_full(use);
      memory.v.release(use);
    };
    const auto begin_scores = [&](int use) {
      memory.k.wait_full(use);
      begin_products();
#pragma unroll
      for (int depth = 0; depth < kQkDim / 16; ++depth) {
        begin_product<false, false>(q_tile.by_rows(group_row, depth),
                                    memory.k.tile(use).by_rows(0, depth), score[0], depth > 0);
      }
      end_products();
    };
    const auto begin_out = [&](int use) {
      memory.v.wait_full(use);
      begin_products();
#pragma unroll
      for (int depth = 0; depth < kKeys / 16; ++depth) {
        begin_product(weights[depth], memory.v.tile(use).by_dimensions(0, depth), out[0]);
      }
      end_products();
    };
    const auto mask = [&](int use) {
      const int key = (item.end_block - 1 - (use - first_use)) * kKeys;
      const bool masked = !all_visible(a, position, last_position, key, key + kKeys);
      finish_scores<false>(a, options, masked, item.batch, item.first, key, place_in_tile, score);
    };
    const auto keep_weights = [&] {
#pragma unroll
      for (int depth = 0; depth < kKeys / 16; ++depth) {
        weights[depth] = fragment_of(score[0], depth);
      }
    };
    float factor[1][2];
    const auto weigh = [&](int use) {
      mask(use);
      const bool rises = softmax.raise(options.to_log2, score, factor);
      softmax.weigh(options.to_log2, score);
      return rises;
    };

    for (int use = first_use; use < begin; ++use) pass(use);
    memory.q.wait_full(item_use);  // without keys too: out is written over q
    if constexpr (Shape::kOverlaps) {
      if (begin < end) {
        begin_scores(begin);
        wait_for_products<0>(score[0]);
        memory.k.release(begin);
        weigh(begin);
        keep_weights();
      }
      for (int use = begin + 1; use < end; ++use) {
        begin_scores(use);
        begin_out(use - 1);
        wait_for_products<1>(score[0]);
        memory.k.release(use);
        const bool rises = weigh(use);
        wait_for_products<0>(out[0]);
        memory.v.release(use - 1);
        if (rises) multiply_rows(factor, out);
        keep_weights();
      }
      if (begin < end) {
        begin_out(end - 1);
        wait_for_products<0>(out[0]);
        memory.v.release(end - 1);
      }
    } else {
      for (int use = begin; use < end; ++use) {
        begin_scores(use);
        wait_for_products<0>(score[0]);
        memory.k.release(use);
        if (weigh(use)) multiply_rows(factor, out);
        keep_weights();
        begin_out(use);
        wait_for_products<0>(out[0]);
        memory.v.release(use);
      }
    }
    for (int use = end; use < end_use; ++use) pass(use);
    first_use = end_use;

    // Again, rather than kept in registers.
    const Item done(a, {read_again(place.column), read_again(place.block), false});
    softmax.finish(options.to_log2, out, [&](int m, int half, float lse) {
      const int query = done.first + place_in_tile.row(m) + 8 * half;
      if (lane % 4 == 0 && query < a.queries) {
        a.lse[static_cast<std::int64_t>(done.column) * a.queries + query] = lse;
      }
    });
    // The rows of q that this warp group alone has read take its rows of out.
    q_tile.store(place_in_tile.row(0), lane, out[0], 1.0f);
    publish_shared();
    arrive_as_warp(memory.out_written(item_use));
  }
#endif
}

}  // namespace polyhead::ops::attention_bf16
