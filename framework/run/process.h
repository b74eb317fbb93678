// How a process starts and ends on all its ranks; the only place that prints a failure.
//
// An error that all ranks throw is printed once, and every rank returns its exit code. An error of
// one rank alone is printed with its rank, and all ranks are ended within five seconds: the others
// may be waiting for it in a collective.
#pragma once

#include <functional>

#include "framework/comm/communicator.h"
#include "framework/exit_code.h"

namespace polyhead {

using ProcessMain = std::function<int(int argc, char** argv, const Communicator& world)>;

// Connects the ranks, runs `work` on each and returns what main is to return.
int run_process(int argc, char** argv, const ProcessMain& work);

}  // namespace polyhead
