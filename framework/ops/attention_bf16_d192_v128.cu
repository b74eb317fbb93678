#include "framework/ops/attention_bf16_launch.cuh"

POLYHEAD_ATTENTION_INSTANCE(d192_v128, 192, 128)
