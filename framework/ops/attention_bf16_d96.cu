#include "framework/ops/attention_bf16_launch.cuh"

POLYHEAD_ATTENTION_INSTANCE(d96, 96, 96)
