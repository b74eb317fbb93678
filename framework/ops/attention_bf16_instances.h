// The pairs of head dimensions that the bf16 attention kernels are compiled for; others are padded
// with zeros, in shared memory only. Private to framework/ops.
#pragma once

namespace polyhead::ops::attention_bf16 {

struct Arguments;

// `general`: soft-cap, ALiBi, documents, a scale <= 0 or addresses that are not aligned, whose code
// the common path is spared. The backward wants the statistics of rows to be there.
void d64_forward(const Arguments& a, bool general);
void d64_backward(const Arguments& a, bool general);
void d96_forward(const Arguments& a, bool general);
void d96_backward(const Arguments& a, bool general);
void d128_forward(const Arguments& a, bool general);
void d128_backward(const Arguments& a, bool general);
void d192_v128_forward(const Arguments& a, bool general);
void d192_v128_backward(const Arguments& a, bool general);
void d256_forward(const Arguments& a, bool general);
void d256_backward(const Arguments& a, bool general);

}  // namespace polyhead::ops::attention_bf16
