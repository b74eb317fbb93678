// The pairs of head dimensions that the bf16 attention kernels are compiled for; others are padded
// with zeros, in shared memory only. Private to framework/ops.
#pragma once

namespace polyhead::ops::attention_bf16 {

struct Arguments;

// `extras`: soft-cap, ALiBi or documents, whose code the common path is spared.
void d64_forward(const Arguments& a, int batch, bool extras);
void d64_backward(const Arguments& a, int batch, bool extras);
void d96_forward(const Arguments& a, int batch, bool extras);
void d96_backward(const Arguments& a, int batch, bool extras);
void d128_forward(const Arguments& a, int batch, bool extras);
void d128_backward(const Arguments& a, int batch, bool extras);
void d192_v128_forward(const Arguments& a, int batch, bool extras);
void d192_v128_backward(const Arguments& a, int batch, bool extras);
void d256_forward(const Arguments& a, int batch, bool extras);
void d256_backward(const Arguments& a, int batch, bool extras);

}  // namespace polyhead::ops::attention_bf16
