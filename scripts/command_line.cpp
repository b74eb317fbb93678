#include "scripts/command_line.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

#include "framework/config/problems.h"
#include "framework/error.h"

namespace polyhead {
namespace {

std::vector<std::string> names_of_commands(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

// Those of its groups too.
std::vector<std::string> names_of_options(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    if (option != command.get_help_ptr()) names.push_back(option->get_name());
  }
  for (const CLI::App* group : command.get_subcommands([](const CLI::App*) { return true; })) {
    for (std::string& name : names_of_options(*group)) names.push_back(std::move(name));
  }
  return names;
}

std::string explain_unknown(const std::string& kind, const std::string& argument,
                            const std::vector<std::string>& known) {
  const std::string candidate = nearest(argument, known);
  return fmt::format("unknown {} {}{}; there are {}", kind, argument,
                     candidate.empty() ? "" : fmt::format(", did you mean {}?", candidate),
                     fmt::join(known, ", "));
}

// CLI11 complains of what is missing before it looks at what it did not know, although a misspelt
// name is the usual reason for both.
std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  if (!chosen.empty()) {
    const CLI::App& command = *chosen.front();
    return fmt::format(
        "{} {}: {}", app.get_name(), command.get_name(),
        unknown.empty() ? error.what()
                        : explain_unknown("argument", unknown.front(), names_of_options(command)));
  }
  const std::vector<std::string> commands = names_of_commands(app);
  if (unknown.empty()) {
    return fmt::format("no command given; there are {}", fmt::join(commands, ", "));
  }
  return explain_unknown(unknown.front().front() == '-' ? "option" : "command", unknown.front(),
                         commands);
}

}  // namespace

void run_command_line(CLI::App& app, int argc, char** argv, const Communicator& world) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    if (world.rank() == 0) app.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    throw ConfigurationError(explain(app, error));
  }
}

}  // namespace polyhead
