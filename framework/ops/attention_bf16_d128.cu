#include "framework/ops/attention_bf16_launch.cuh"

POLYHEAD_ATTENTION_INSTANCE(d128, 128, 128)
