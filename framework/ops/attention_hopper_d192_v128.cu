#include "framework/ops/attention_hopper_launch.cuh"

POLYHEAD_HOPPER_ATTENTION_INSTANCE(hopper_d192_v128, 192, 128)
