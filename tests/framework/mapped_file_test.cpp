#include "framework/files/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

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

// A file of a folder that was unpacked somewhere may be anything.
TEST(MappedFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  const auto error = [&](const char* name) {
    return error_of([&] { MappedFile file(folder / name); });
  };
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error("pipe"), HasSubstr("pipe is not a regular file"));
  std::filesystem::create_symlink("/dev/zero", folder / "device");
  EXPECT_THAT(error("device"), HasSubstr("device is not a regular file"));
  std::filesystem::create_symlink(".", folder / "link");
  EXPECT_THAT(error("link"), HasSubstr("link is not a regular file"));
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  EXPECT_THAT(error("dangling"), HasSubstr("dangling: No such file"));
  std::filesystem::create_symlink("loop", folder / "loop");
  EXPECT_THAT(error("loop"), HasSubstr("loop: Too many levels of symbolic links"));
  EXPECT_THAT(error(std::string(300, 'x').c_str()), HasSubstr("xx: File name too long"));
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
