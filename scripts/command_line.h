// Understanding the command line, the same on all ranks.
#pragma once

#include "framework/comm/communicator.h"

namespace CLI {
class App;
}

namespace polyhead {

// Parses the arguments and runs the chosen command. --help and --version are printed by rank 0.
// Throws ConfigurationError, which names the argument, for what `app` does not understand.
void run_command_line(CLI::App& app, int argc, char** argv, const Communicator& world);

}  // namespace polyhead
