#include "framework/files/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "framework/exit_code.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;
using ::testing::KilledBySignal;
using testing::TemporaryFolder;
using testing::write_file;

constexpr std::size_t kBytes = 3 * 65536 + 17;  // ends within a page, of any usual size

TEST(MappedFile, HoldsTheBytesOfTheFile) {
  const TemporaryFolder folder;
  write_file(folder / "a", std::string("one\0two", 7));
  const MappedFile file(folder / "a");
  EXPECT_EQ(file.text(), std::string_view("one\0two", 7));
  write_file(folder / "empty", "");
  EXPECT_TRUE(MappedFile(folder / "empty").bytes().empty());
  EXPECT_THAT(error_of([&] { MappedFile absent(folder / "absent"); }), HasSubstr("absent"));
  EXPECT_THAT(error_of([&] { MappedFile directory(folder.path()); }),
              HasSubstr("not a regular file"));
}

TEST(MappedFileDeathTest, NamesAFileThatShrankWhileItWasRead) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const TemporaryFolder folder;
  write_file(folder / "other", std::string(kBytes, 'x'));
  write_file(folder / "shrunk", std::string(kBytes, 'x'));
  const MappedFile before(folder / "other"), file(folder / "shrunk"), after(folder / "other");
  std::filesystem::resize_file(folder / "shrunk", 10);
  volatile const char* last = file.text().data() + kBytes - 1;
  EXPECT_EXIT([[maybe_unused]] const char read = *last, ExitedWithCode(kExitFailure),
              "^polyhead: error: [^ ]*/shrunk was cut short while it was in use");
}

TEST(MappedFileDeathTest, LeavesOtherBusErrorsAsTheyAre) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const TemporaryFolder folder;
  write_file(folder / "a", "a");
  const MappedFile file(folder / "a");
  EXPECT_EXIT(std::raise(SIGBUS), KilledBySignal(SIGBUS), "^$");
}

}  // namespace
}  // namespace polyhead
