#include "scripts/commands.h"

namespace polyhead {

void add_commands(CLI::App& app, const Communicator& world) {
  add_convert_command(app, world);
  add_evaluate_command(app, world);
  add_export_command(app, world);
  add_generate_command(app, world);
  add_inspect_command(app, world);
  add_tokenize_command(app, world);
  add_train_command(app, world);
}

}  // namespace polyhead
