#include <algorithm>
#include <cmath>

#include "framework/ops/attention.h"
#include "framework/ops/matmul.h"
#include "tests/bench/gpu_cases.h"

namespace polyhead::bench {
namespace {

struct Linear {
  const char* name;
  std::int64_t tokens, in, out;
};
constexpr Linear kLinears[] = {
    {"162M/qkv", 32768, 768, 2304},       {"162M/o", 32768, 768, 768},
    {"162M/gate_up", 32768, 768, 4096},   {"162M/down", 32768, 2048, 768},
    {"162M/head", 8192, 768, 50304},      {"1.13B/qkv", 32768, 2048, 3072},
    {"1.13B/o", 32768, 2048, 2048},       {"1.13B/gate_up", 32768, 2048, 11264},
    {"1.13B/down", 32768, 5632, 2048},    {"1.13B/head", 16384, 2048, 32768},
    {"1.5B/qkv", 32768, 1536, 2048},      {"1.5B/o", 32768, 1536, 1536},
    {"1.5B/gate_up", 32768, 1536, 17920}, {"1.5B/down", 32768, 8960, 1536},
    {"1.5B/head", 4096, 1536, 151936},
};

void time_linear(GpuBench& bench, const Linear& linear) {
  const auto [name, tokens, in, out] = linear;
  const auto time = [&](const char* pass, const std::function<Work()>& prepare) {
    bench.run({.name = fmt::format("gemm/{}/{} {}x{}x{}", name, pass, tokens, in, out),
               .flops = 2 * product({tokens, in, out})},
              prepare);
  };
  time("forward", [&]() -> Work {
    const Tensor x = random({tokens, in}), weight = random({out, in});
    Tensor y = empty({tokens, out});
    return [=]() mutable { ops::matmul_weight(x, weight, y); };
  });
  time("dx", [&]() -> Work {
    const Tensor dy = random({tokens, out}), weight = random({out, in});
    Tensor dx = empty({tokens, in});
    return [=]() mutable {
      ops::matmul(dy, ops::Transpose::kNo, weight, ops::Transpose::kNo, ops::Accumulate::kNo, dx);
    };
  });
  time("dweight", [&]() -> Work {
    const Tensor dy = random({tokens, out}), x = random({tokens, in});
    Tensor dweight = random({out, in}, DType::kF32);
    return [=]() mutable {
      ops::matmul(dy, ops::Transpose::kYes, x, ops::Transpose::kNo, ops::Accumulate::kYes, dweight);
    };
  });
}

struct Heads {
  const char* name;
  std::int64_t heads, groups, key_dim, value_dim, window;
};
constexpr Heads kHeads[] = {
    {"mha d128", 32, 32, 128, 128, 0},    {"gqa 8 groups d128", 32, 8, 128, 128, 0},
    {"mqa d128", 32, 1, 128, 128, 0},     {"mha d64", 32, 32, 64, 64, 0},
    {"mla 192/128", 32, 32, 192, 128, 0}, {"mha d128 window 1024", 32, 32, 128, 128, 1024},
};
constexpr std::int64_t kAttentionTokens = 16384;

// Columns of one packed tensor, as the projections write them.
struct PackedHeads {
  ops::HeadView q, k, v;
};
PackedHeads unpacked(const Tensor& packed, const Heads& shape) {
  const std::int64_t k_begin = shape.heads * shape.key_dim;
  const std::int64_t v_begin = k_begin + shape.groups * shape.key_dim;
  return {ops::heads_of(packed.column_slice(0, k_begin), shape.heads),
          ops::heads_of(packed.column_slice(k_begin, v_begin), shape.groups),
          ops::heads_of(packed.column_slice(v_begin, packed.cols()), shape.groups)};
}

void time_attention(GpuBench& bench, const Heads& shape, std::int64_t length) {
  const std::int64_t batch = kAttentionTokens / length;
  const std::int64_t packed_columns =
      (shape.heads + shape.groups) * shape.key_dim + shape.groups * shape.value_dim;
  const std::int64_t out_columns = shape.heads * shape.value_dim;
  ops::AttentionSpec spec;
  spec.scale = 1 / std::sqrt(static_cast<double>(shape.key_dim));
  spec.window = shape.window;
  const std::int64_t window = shape.window == 0 ? length : std::min(length, shape.window);
  const std::int64_t pairs = window * (window + 1) / 2 + (length - window) * window;
  const double products = 2 * product({pairs, batch, shape.heads});
  const auto name = [&](const char* pass) {
    return fmt::format("attention/{}/{} T {}", shape.name, pass, length);
  };

  bench.run(
      {.name = name("forward"),
       .flops = products * static_cast<double>(shape.key_dim + shape.value_dim)},
      [&]() -> Work {
        const PackedHeads heads = unpacked(random({kAttentionTokens, packed_columns}), shape);
        ops::HeadView out = ops::heads_of(empty({kAttentionTokens, out_columns}), shape.heads);
        Tensor lse = empty({batch, shape.heads, length}, DType::kF32);
        return [=]() mutable {
          ops::attention_forward(heads.q, heads.k, heads.v, batch, spec, out, lse);
        };
      });
  bench.run(
      {.name = name("backward"),
       .flops = products * static_cast<double>(3 * shape.key_dim + 2 * shape.value_dim)},
      [&]() -> Work {
        const PackedHeads heads = unpacked(random({kAttentionTokens, packed_columns}), shape);
        PackedHeads grads = unpacked(empty({kAttentionTokens, packed_columns}), shape);
        ops::HeadView out = ops::heads_of(empty({kAttentionTokens, out_columns}), shape.heads);
        const ops::HeadView dout =
            ops::heads_of(random({kAttentionTokens, out_columns}), shape.heads);
        Tensor lse = empty({batch, shape.heads, length}, DType::kF32);
        ops::attention_forward(heads.q, heads.k, heads.v, batch, spec, out, lse);
        return [=]() mutable {
          ops::attention_backward(dout, heads.q, heads.k, heads.v, out, lse, batch, spec, grads.q,
                                  grads.k, grads.v);
        };
      });
}

}  // namespace

void time_products(GpuBench& bench) {
  for (const Linear& linear : kLinears) time_linear(bench, linear);
  for (const Heads& heads : kHeads) {
    for (const std::int64_t length : {2048, 4096, 8192, 16384})
      time_attention(bench, heads, length);
  }
}

}  // namespace polyhead::bench
