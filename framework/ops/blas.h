// The BLAS as the project uses it: one thread for each call, because the calls themselves run in
// parallel.
#pragma once

#include <string>

namespace polyhead::ops {

// Tells the library once to compute on the calling thread alone. A library without such a switch is
// used as it is.
void make_blas_single_threaded();

}  // namespace polyhead::ops
