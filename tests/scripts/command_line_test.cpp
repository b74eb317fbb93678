#include "scripts/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "framework/error.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;

class CommandLine : public ::testing::Test {
 protected:
  CommandLine() {
    app_.require_subcommand(1);
    CLI::App* train = app_.add_subcommand("train", "");
    train->add_option("--config", config_, "")->required();
    train->add_option_group("group")->add_option("--resume", resume_, "");
    train->callback([this] { trained_ = true; });
    app_.add_subcommand("inspect", "");
  }

  void run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "polyhead");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    run_command_line(app_, static_cast<int>(argv.size()), argv.data(), *make_solo_communicator());
  }

  std::string message_of(const std::vector<std::string>& arguments) {
    try {
      run(arguments);
    } catch (const ConfigurationError& error) {
      return error.what();
    }
    return "no error";
  }

  CLI::App app_{"", "polyhead"};
  std::string config_;
  std::string resume_;
  bool trained_ = false;
};

TEST_F(CommandLine, RunsTheCommand) {
  run({"train", "--config", "a.yaml"});
  EXPECT_TRUE(trained_);
  EXPECT_EQ(config_, "a.yaml");
}

TEST_F(CommandLine, NamesTheUnknownCommand) {
  EXPECT_EQ(message_of({"trian", "x"}),
            "unknown command trian, did you mean train?; there are train, inspect");
  EXPECT_EQ(message_of({}), "no command given; there are train, inspect");
  EXPECT_THAT(message_of({"--frob"}), HasSubstr("unknown option --frob"));
}

// Although the required option is missing too.
TEST_F(CommandLine, NamesTheMisspeltOption) {
  EXPECT_EQ(message_of({"train", "--confg", "a.yaml"}),
            "polyhead train: unknown argument --confg, did you mean --config?; there are --config, "
            "--resume");
  EXPECT_FALSE(trained_);
}

TEST_F(CommandLine, NamesTheMissingOption) {
  EXPECT_EQ(message_of({"train"}), "polyhead train: --config is required");
}

}  // namespace
}  // namespace polyhead
