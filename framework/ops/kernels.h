// What a device must provide: one struct for each op, specialised in the op's name_cpu.cpp and
// name_cuda.cu. Arguments are those of the op, checked by its name.cpp. A missing specialisation is
// a link error that names the op.
#pragma once

#include "framework/ops/activation.h"
#include "framework/ops/adamw.h"
#include "framework/ops/head_view.h"
#include "framework/ops/matmul.h"
#include "framework/ops/normalization.h"
#include "framework/ops/rope.h"
#include "framework/tensor.h"

namespace polyhead::ops::kernel {

template <Device D>
struct Matmul {
  // c = addend + op(a) op(b); `addend` may be empty, or c.
  static void multiply(const Tensor& addend, const Tensor& a, Transpose transpose_a,
                       const Tensor& b, Transpose transpose_b, Tensor& c);
  static void set_measuring(bool on);
  static std::string choices();
  static bool adopt_choices(const std::string& choices, const std::string& source);
};

template <Device D>
struct Elementwise {
  static void fill(double value, Tensor& x);
  static void scale(double factor, Tensor& x);
  static void add(const Tensor& a, const Tensor& b, Tensor& y);
  static void add_bias(const Tensor& bias, Tensor& y);
  static void bias_backward(const Tensor& dy, Tensor& dbias);
  static void softcap_forward(double cap, Tensor& x);
  static void softcap_backward(const Tensor& y, double cap, Tensor& dy);
  static void add_sum(double factor, const Tensor& x, Tensor& total);
  static void add_sum_squares(const Tensor& x, Tensor& total);
  static void clip_scale(const Tensor& squares, double max_norm, Tensor& scale);
  static bool all_finite(const Tensor& x);
};

template <Device D>
struct RmsNorm {
  static void forward(const Tensor& addend, const Tensor& x, const Tensor& weight, NormWeight form,
                      double epsilon, Tensor& sum, Tensor& y, Tensor& rstd);
  static void apply(const Tensor& x, const Tensor& weight, NormWeight form, const Tensor& rstd,
                    Tensor& y);
  static void backward(const Tensor& dy, const Tensor& x, const Tensor& weight, NormWeight form,
                       const Tensor& rstd, const Tensor& dresidual, Tensor& dx, Tensor& dweight);
};

template <Device D>
struct LayerNorm {
  static void forward(const Tensor& addend, const Tensor& x, const Tensor& weight,
                      const Tensor& bias, double epsilon, Tensor& sum, Tensor& y,
                      Tensor& statistics);
  static void apply(const Tensor& x, const Tensor& weight, const Tensor& bias,
                    const Tensor& statistics, Tensor& y);
  static void backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& statistics, const Tensor& dresidual, Tensor& dx,
                       Tensor& dweight, Tensor& dbias);
};

template <Device D>
struct LatentKeys {
  static void forward(const HeadView& own, const Tensor& shared, const RopeTable& table,
                      std::int64_t sequence_length, HeadView& key);
  static void backward(const HeadView& dkey, const RopeTable& table, std::int64_t sequence_length,
                       HeadView& d_own, Tensor& dshared);
};

template <Device D>
struct MlpActivation {
  static void forward(const Tensor& x, Activation activation, Tensor& y);
  static void backward(const Tensor& dy, const Tensor& x, Activation activation, Tensor& dx);
};

template <Device D>
struct Embedding {
  static void forward(const Tensor& ids, const Tensor& table, std::int64_t first_id,
                      std::int64_t valid_rows, double factor, Tensor& y);
  static void backward(const Tensor& dy, const Tensor& ids, std::int64_t first_id,
                       std::int64_t valid_rows, double factor, Tensor& dtable);
};

template <Device D>
struct CrossEntropy {
  static void statistics(const Tensor& logits, const Tensor& targets, std::int64_t first_id,
                         std::int64_t valid_columns, Tensor& statistics);
  static void combine(const Tensor& gathered, const Tensor& targets, Tensor& losses, Tensor& lse);
  static void backward(const Tensor& targets, const Tensor& lse, std::int64_t first_id,
                       std::int64_t valid_columns, double weight, Tensor& logits);
  // False, with nothing written, where the device has no single pass for rows of this width.
  static bool loss_and_gradient(const Tensor& targets, std::int64_t valid_columns, double weight,
                                Tensor& logits, Tensor& losses, Tensor& lse);
};

template <Device D>
struct Distillation {
  static void statistics(const Tensor& logits, const Tensor& teacher_logits, const Tensor& targets,
                         std::int64_t first_id, std::int64_t valid_columns, double temperature,
                         Tensor& statistics);
  static void combine(const Tensor& gathered, const Tensor& targets, double temperature,
                      Tensor& cross_entropies, Tensor& divergences, Tensor& log_sums);
  static void backward(const Tensor& teacher_logits, const Tensor& targets, const Tensor& log_sums,
                       std::int64_t first_id, std::int64_t valid_columns, double temperature,
                       double share, double weight, Tensor& logits);
};

template <Device D>
struct Adamw {
  static void update(const Tensor& grad, const AdamwOptions& options, const Tensor& scalars,
                     Tensor& value, Tensor& first_moment, Tensor& second_moment, Tensor& rounded);
};

}  // namespace polyhead::ops::kernel
