#include "framework/parameters/parameter.h"

#include <algorithm>
#include <array>
#include <utility>

#include "framework/dispatch.h"
#include "framework/ops/matmul.h"
#include "framework/random.h"

namespace polyhead {

Parameter replicated_parameter(std::string name, const Shape& shape, int tensor_rank,
                               Initialization initialization) {
  Parameter parameter;
  parameter.name = std::move(name);
  parameter.global_shape = parameter.local_shape = shape;
  parameter.owner = tensor_rank == 0;
  parameter.decays = shape.rank() > 1;
  parameter.initialization = initialization;
  return parameter;
}

Parameter sharded_parameter(std::string name, const Shape& global_shape, int dim,
                            std::int64_t begin, std::int64_t end, Initialization initialization,
                            std::int64_t local_size) {
  POLYHEAD_CHECK(0 <= begin && begin <= end && end <= global_shape[dim], "{}: shard [{}, {}) of {}",
                 name, begin, end, global_shape.to_string());
  Parameter parameter;
  parameter.name = std::move(name);
  parameter.global_shape = parameter.local_shape = global_shape;
  parameter.local_shape[dim] = local_size == 0 ? end - begin : local_size;
  parameter.shard_dim = dim;
  parameter.shard_begin = begin;
  parameter.shard_end = end;
  parameter.decays = global_shape.rank() > 1;
  parameter.initialization = initialization;
  return parameter;
}

Tensor valid_part(const Parameter& parameter, const Tensor& local) {
  if (!parameter.is_sharded()) return local;
  const std::int64_t valid = parameter.shard_end - parameter.shard_begin;
  if (parameter.shard_dim == 0) return local.row_slice(0, valid);
  POLYHEAD_CHECK(parameter.shard_dim == 1 && parameter.global_shape.rank() == 2,
                 "{}: shards lie along rows or columns", parameter.name);
  return local.column_slice(0, valid);
}

SliceIndex slice_index(const Parameter& parameter) {
  const int last_dim = parameter.global_shape.rank() - 1;
  const std::int64_t whole_columns = parameter.global_shape[last_dim];
  const std::int64_t entry = parameter.shard_dim == last_dim ? 1 : whole_columns;
  return {.first = parameter.shard_begin * entry,
          .columns = parameter.local_shape[last_dim],
          .whole_columns = whole_columns};
}

namespace {

Tensor joined(std::span<const Parameter> parts, Tensor Parameter::*member) {
  std::int64_t rows = 0;
  for (const Parameter& part : parts) rows += (part.*member).shape()[0];
  return (parts.front().*member).extended_rows(rows);
}

template <class T>
void fill_normal(const Parameter& parameter, std::uint64_t seed, Tensor& value) {
  const std::uint64_t stream = stream_id(parameter.name);
  Tensor valid = valid_part(parameter, value);
  T* data = valid.data<T>();
  const SliceIndex slice = slice_index(parameter);
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < valid.rows(); ++row) {
    std::array<double, 2> pair{};
    for (std::int64_t col = 0; col < valid.cols(); ++col) {
      const auto index = static_cast<std::uint64_t>(slice.at(row, col));
      if (col == 0 || index % 2 == 0) pair = normal_pair(seed, stream, index / 2);
      data[row * valid.row_stride() + col] =
          static_cast<T>(parameter.initialization.standard_deviation * pair[index % 2]);
    }
  }
}

template <class T>
void fill_ones(const Parameter& parameter, Tensor& value) {
  Tensor valid = valid_part(parameter, value);
  POLYHEAD_CHECK(valid.is_contiguous(), "{}: ones fill whole rows", parameter.name);
  std::fill_n(valid.data<T>(), valid.numel(), T(1));
}

}  // namespace

Tensor joined_values(std::span<const Parameter> parts) {
  return joined(parts, &Parameter::value);
}

Tensor joined_grads(std::span<const Parameter> parts) {
  return joined(parts, &Parameter::grad);
}

void add_weight_grad(const Tensor& dy, const Tensor& x, std::span<Parameter> parts) {
  const bool empty = std::ranges::all_of(parts, &Parameter::grad_is_empty);
  for (Parameter& part : parts) {
    if (!empty) grad_to_add_to(part);
    part.grad_is_empty = false;
  }
  Tensor grad = joined_grads(parts);
  ops::matmul(dy, ops::Transpose::kYes, x, ops::Transpose::kNo,
              empty ? ops::Accumulate::kNo : ops::Accumulate::kYes, grad);
}

Tensor& grad_to_add_to(Parameter& parameter) {
  if (parameter.grad_is_empty) parameter.grad.set_zero();
  parameter.grad_is_empty = false;
  return parameter.grad;
}

Tensor initial_value(const Parameter& parameter, std::uint64_t seed, DType dtype) {
  Tensor value = Tensor::zeros(parameter.local_shape, dtype);
  dispatch_cpu_float(dtype, [&]<class T>() {
    switch (parameter.initialization.kind) {
      case Initialization::Kind::kZeros:
        break;
      case Initialization::Kind::kOnes:
        fill_ones<T>(parameter, value);
        break;
      case Initialization::Kind::kNormal:
        fill_normal<T>(parameter, seed, value);
        break;
    }
  });
  return value;
}

}  // namespace polyhead
