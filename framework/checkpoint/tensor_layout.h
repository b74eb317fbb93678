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

// A tensor of a file that stands for one parameter or several: their stack along dimension 0, its
// rows in another order, all of it transposed, in this sequence.
struct PackedTensor {
  struct Part {
    std::string parameter;
    std::int64_t rows = 0;
  };

  std::string name;                // in the file
  std::vector<Part> parts;         // all matrices of equal width, or all vectors
  std::vector<std::int64_t> rows;  // row i lies in row rows[i] of the stack; empty: in row i
  bool transposed = false;         // matrices only
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
