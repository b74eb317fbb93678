#pragma once

namespace polyhead {

// What training keeps of a block between forward and backward; results are bitwise the same.
//   none       everything
//   selective  not the norms' outputs, the activation product and MLA's expanded keys and values:
//              they are remade without running the attention again
//   full       the block's input alone; the forward pass runs again
enum class Recompute { kNone, kSelective, kFull };

}  // namespace polyhead
