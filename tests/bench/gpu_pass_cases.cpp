#include <array>
#include <cmath>
#include <set>

#include "framework/ops/activation.h"
#include "framework/ops/adamw.h"
#include "framework/ops/cross_entropy.h"
#include "framework/ops/embedding.h"
#include "framework/ops/normalization.h"
#include "framework/ops/rope.h"
#include "framework/random.h"
#include "tests/bench/gpu_cases.h"

namespace polyhead::bench {
namespace {

void time_rms_norm(GpuBench& bench, std::int64_t tokens, std::int64_t hidden) {
  const auto time = [&](const char* pass, int tensors, const std::function<Work()>& prepare) {
    bench.run({.name = fmt::format("rms_norm/{} {}x{}", pass, tokens, hidden),
               .bytes = 2 * tensors * product({tokens, hidden})},
              prepare);
  };
  const Shape shape{tokens, hidden};
  constexpr auto kForm = ops::NormWeight::kPlain;
  time("forward", 2, [&]() -> Work {
    const Tensor x = random(shape), weight = random({hidden});
    Tensor y = empty(shape), rstd = empty({tokens}, DType::kF32);
    return [=]() mutable { ops::rms_norm_forward(x, weight, kForm, 1e-5, {}, y, rstd); };
  });
  time("forward with residual", 4, [&]() -> Work {
    const Tensor x = random(shape), weight = random({hidden});
    const ops::Residual residual{random(shape), empty(shape)};
    Tensor y = empty(shape), rstd = empty({tokens}, DType::kF32);
    return [=]() mutable { ops::rms_norm_forward(x, weight, kForm, 1e-5, residual, y, rstd); };
  });
  for (const bool with_residual : {false, true}) {
    time(with_residual ? "backward with residual" : "backward", with_residual ? 4 : 3,
         [&]() -> Work {
           const Tensor x = random(shape), weight = random({hidden}), dy = random(shape);
           const Tensor dresidual = with_residual ? random(shape) : Tensor();
           Tensor dx = empty(shape), rstd = empty({tokens}, DType::kF32);
           Tensor dweight = random({hidden}, DType::kF32);
           ops::rms_norm_forward(x, weight, kForm, 1e-5, {}, dx, rstd);
           return [=]() mutable {
             ops::rms_norm_backward(dy, x, weight, kForm, rstd, dresidual, dx, dweight);
           };
         });
  }
}

void time_activation(GpuBench& bench, ops::Activation activation, const char* name,
                     std::int64_t tokens, std::int64_t width) {
  const std::int64_t inputs = ops::is_gated(activation) ? 2 * width : width;
  bench.run({.name = fmt::format("activation/{}/forward {}x{}", name, tokens, width),
             .bytes = 2 * product({tokens, inputs + width})},
            [&]() -> Work {
              const Tensor x = random({tokens, inputs});
              Tensor y = empty({tokens, width});
              return [=]() mutable { ops::activation_forward(x, activation, y); };
            });
  bench.run({.name = fmt::format("activation/{}/backward {}x{}", name, tokens, width),
             .bytes = 2 * product({tokens, 2 * inputs + width})},
            [&]() -> Work {
              const Tensor x = random({tokens, inputs}), dy = random({tokens, width});
              Tensor dx = empty({tokens, inputs});
              return [=]() mutable { ops::activation_backward(dy, x, activation, dx); };
            });
}

// In place on q and k of a packed projection with `others` columns more.
void time_rope(GpuBench& bench, std::int64_t length, std::int64_t heads, std::int64_t head_dim,
               std::int64_t others) {
  constexpr std::int64_t kTokens = 32768;
  const std::int64_t turned = heads * head_dim;
  std::vector<double> frequencies;
  for (std::int64_t j = 0; j < head_dim / 2; ++j) {
    frequencies.push_back(
        std::pow(1e4, -2 * static_cast<double>(j) / static_cast<double>(head_dim)));
  }
  ops::RopeTable table = ops::make_rope_table(frequencies, 1, length, DType::kF32);
  table = {table.cos.to(Device::kCuda), table.sin.to(Device::kCuda)};
  bench.run(
      {.name = fmt::format("rope {} heads d{} of {}x{}", heads, head_dim, kTokens, turned + others),
       .bytes = 4 * product({kTokens, turned})},
      [&]() -> Work {
        ops::HeadView x =
            ops::heads_of(random({kTokens, turned + others}).column_slice(0, turned), heads);
        return [=]() mutable { ops::rope(table, length, ops::Rotation::kForward, x); };
      });
}

// Uniform over the vocabulary, or as frequent as words are: the id's logarithm is uniform.
Tensor random_ids(std::int64_t count, std::int64_t vocabulary, bool as_words) {
  Tensor ids = Tensor::empty({count}, DType::kI32);
  const auto size = static_cast<double>(vocabulary);
  for (std::int64_t i = 0; i < count; ++i) {
    const double place = uniform(1, stream_id("ids"), static_cast<std::uint64_t>(i));
    ids.data<std::int32_t>()[i] =
        static_cast<std::int32_t>(as_words ? std::pow(size, place) - 1 : size * place);
  }
  return ids;
}

void time_cross_entropy(GpuBench& bench, std::int64_t tokens, std::int64_t vocabulary) {
  const Tensor targets = random_ids(tokens, vocabulary, true).to(Device::kCuda);
  const auto time = [&](const char* pass, int passes, const std::function<Work()>& prepare) {
    bench.run({.name = fmt::format("cross_entropy/{} {}x{}", pass, tokens, vocabulary),
               .bytes = 2 * passes * product({tokens, vocabulary})},
              prepare);
  };
  time("statistics", 1, [&]() -> Work {
    const Tensor logits = random({tokens, vocabulary});
    Tensor statistics = empty({1, tokens, 3}, DType::kF32);
    return [=]() mutable {
      ops::cross_entropy_statistics(logits, targets, 0, vocabulary, statistics);
    };
  });
  time("statistics and backward", 3, [&]() -> Work {
    Tensor logits = random({tokens, vocabulary});
    Tensor statistics = empty({1, tokens, 3}, DType::kF32);
    Tensor losses = empty({tokens}, DType::kF32), lse = empty({tokens}, DType::kF32);
    return [=]() mutable {
      ops::cross_entropy_statistics(logits, targets, 0, vocabulary, statistics);
      ops::cross_entropy_combine(statistics, targets, losses, lse);
      ops::cross_entropy_backward(targets, lse, 0, vocabulary, 1.0, logits);
    };
  });
  time("loss and gradient", 2, [&]() -> Work {
    Tensor logits = random({tokens, vocabulary});
    Tensor losses = empty({tokens}, DType::kF32), lse = empty({tokens}, DType::kF32);
    return [=]() mutable {
      ops::cross_entropy_loss_and_gradient(targets, vocabulary, 1.0, logits, losses, lse);
    };
  });
}

void time_adamw(GpuBench& bench, std::int64_t parameters) {
  const ops::AdamwOptions options{.weight_decay = 0.1};
  const Tensor scalars = ops::adamw_scalars(options, 1e-4, 100).to(Device::kCuda);
  bench.run({.name = fmt::format("adamw {}", parameters), .bytes = 30 * product({parameters})},
            [&]() -> Work {
              const Tensor grad = random({parameters}, DType::kF32);
              Tensor value = random({parameters}, DType::kF32), rounded = empty({parameters});
              Tensor first = empty({parameters}, DType::kF32);
              Tensor second = empty({parameters}, DType::kF32);
              first.set_zero();  // after the warm-up the moments are as random as the gradient
              second.set_zero();
              return [=]() mutable {
                ops::adamw(grad, options, scalars, value, first, second, rounded);
              };
            });
}

void time_embedding_backward(GpuBench& bench, std::int64_t tokens, std::int64_t vocabulary,
                             std::int64_t hidden, bool as_words) {
  const Tensor ids = random_ids(tokens, vocabulary, as_words);
  const std::int32_t* const first = ids.data<std::int32_t>();
  const auto rows = static_cast<std::int64_t>(std::set<std::int32_t>(first, first + tokens).size());
  const Tensor device_ids = ids.to(Device::kCuda);
  bench.run({.name = fmt::format("embedding_backward/{} {} of {}x{}",
                                 as_words ? "words" : "uniform", tokens, vocabulary, hidden),
             .bytes = 2 * product({tokens, hidden}) + 8 * product({rows, hidden})},
            [&]() -> Work {
              const Tensor dy = random({tokens, hidden});
              Tensor dtable = random({vocabulary, hidden}, DType::kF32);
              return [=]() mutable {
                ops::embedding_backward(dy, device_ids, 0, vocabulary, 1.0, dtable);
              };
            });
}

}  // namespace

void time_passes(GpuBench& bench) {
  for (const auto& [tokens, hidden] :
       {std::array{16384, 4096}, {32768, 768}, {32768, 2048}, {131072, 128}}) {
    time_rms_norm(bench, tokens, hidden);
  }
  for (const std::int64_t width : {2048, 5632, 8960}) {
    time_activation(bench, ops::Activation::kSwiglu, "swiglu", 32768, width);
  }
  time_activation(bench, ops::Activation::kGeluTanh, "gelu_tanh", 32768, 3072);
  time_rope(bench, 1024, 24, 64, 768);
  time_rope(bench, 4096, 20, 128, 512);
  time_cross_entropy(bench, 8192, 50304);
  time_cross_entropy(bench, 4096, 151936);
  time_adamw(bench, 100'000'000);
  for (const bool as_words : {false, true}) {
    time_embedding_backward(bench, 32768, 50304, 768, as_words);
    time_embedding_backward(bench, 32768, 151936, 1536, as_words);
  }
}

}  // namespace polyhead::bench
