#include "framework/ops/attention_bf16_launch.cuh"

POLYHEAD_ATTENTION_INSTANCE(d64, 64, 64)
