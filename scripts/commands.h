// The subcommands of polyhead, each in a file of its own. A function adds its command to the
// command line; the work is the command's CLI::App::callback, which runs on all ranks once the
// whole command line has been understood.
#pragma once

#include "framework/comm/communicator.h"

namespace CLI {
class App;
}

namespace polyhead {

void add_convert_command(CLI::App& app, const Communicator& world);
void add_evaluate_command(CLI::App& app, const Communicator& world);
void add_export_command(CLI::App& app, const Communicator& world);
void add_generate_command(CLI::App& app, const Communicator& world);
void add_inspect_command(CLI::App& app, const Communicator& world);
void add_tokenize_command(CLI::App& app, const Communicator& world);
void add_train_command(CLI::App& app, const Communicator& world);

void add_commands(CLI::App& app, const Communicator& world);  // all of them

}  // namespace polyhead
