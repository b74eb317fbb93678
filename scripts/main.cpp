// polyhead: trains, converts and evaluates transformer language models.
#include <CLI/CLI.hpp>

#include "framework/run/process.h"
#include "scripts/command_line.h"
#include "scripts/commands.h"

int main(int argc, char** argv) {
  return polyhead::run_process(
      argc, argv, [](int count, char** arguments, const polyhead::Communicator& world) {
        CLI::App app("Trains, converts and evaluates transformer language models.", "polyhead");
        app.set_version_flag("--version", "polyhead " POLYHEAD_VERSION);
        app.require_subcommand(1);
        polyhead::add_commands(app, world);
        polyhead::run_command_line(app, count, arguments, world);
        return polyhead::kExitSuccess;
      });
}
