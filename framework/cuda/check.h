// Checks of CUDA's return codes. What fails here was not caused by the user's input: the message
// names the call and what the driver says.
#pragma once

#include <cuda_runtime_api.h>

namespace polyhead::cuda {

// Throws Error unless `status` is success.
void check(cudaError_t status, const char* call);

// The last launch's error, if any; `kernel` names it.
inline void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

}  // namespace polyhead::cuda

#define POLYHEAD_CUDA(call) ::polyhead::cuda::check((call), #call)
