// Ranks as threads of one process: parallel code under a plain test runner, a debugger or
// ThreadSanitizer, with the same bits as MPI.
#pragma once

#include <functional>

#include "framework/comm/communicator.h"

namespace polyhead {

// Runs `work` on `ranks` threads, each with its communicator, and joins them. If a rank throws, the
// others are released from their collectives and the lowest rank's exception is rethrown here.
void run_on_threads(int ranks, const std::function<void(const Communicator&)>& work);

}  // namespace polyhead
