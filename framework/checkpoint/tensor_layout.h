// How a model file holds parameters that do not lie in it as tensors of their own, under their own
// names: other programs rename, pack, transpose and permute. Data alone, made by who knows the
// other program (layers/huggingface/tensor_layout.h).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace polyhead {

// An order of rows: of every `period` rows the last `paired` come two by two, row j of the first
// half of them before row j of the second. A period of 0: the rows as they are.
struct PairedRows {
  std::int64_t period = 0;
  std::int64_t paired = 0;  // even

  // The row that stands in place i of the new order.
  std::int64_t at(std::int64_t i) const {
    const std::int64_t plain = period - paired;
    const std::int64_t place = period == 0 ? 0 : i % period - plain;
    if (period == 0 || place < 0) return i;
    return i - place + place / 2 + (place % 2 == 0 ? 0 : paired / 2);
  }
};

// A tensor of a file that stands for one parameter or several: their stack along dimension 0, its
// rows in another order, all of it transposed, in this sequence.
struct PackedTensor {
  struct Part {
    std::string parameter;
    std::int64_t rows = 0;
  };

  std::string name;         // in the file
  std::vector<Part> parts;  // all matrices of equal width, or all vectors
  PairedRows rows;
  bool transposed = false;  // matrices only
};

// Every parameter lies in one tensor of `tensors` or, like all parameters of an empty layout, as it
// is under its own name.
struct TensorLayout {
  std::vector<PackedTensor> tensors;
  // Tensors that a file may hold or not, each equal to a parameter: a tied head.
  std::map<std::string, std::string> copies;
  // Tensors that a file may hold and that are no parameters: buffers.
  std::set<std::string> ignored;
  // What the names of a file may all lack at their front.
  std::string optional_prefix;
};

}  // namespace polyhead
