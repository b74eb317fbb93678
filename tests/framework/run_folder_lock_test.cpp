#include "framework/run/run_folder_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

TEST(RunFolderLock, RefusesASecondRun) {
  const TemporaryFolder folder;
  {
    const RunFolderLock lock(folder / "run");
    EXPECT_THAT(error_of([&] { RunFolderLock second(folder / "run"); }),
                AllOf(HasSubstr("run is in use by process " + std::to_string(::getpid())),
                      HasSubstr("checkpoint.folder")));
    EXPECT_EQ(error_of([&] { RunFolderLock other(folder / "other"); }), "no error");
  }
  EXPECT_EQ(error_of([&] { RunFolderLock again(folder / "run"); }), "no error");
}

TEST(RunFolderLock, DiesWithItsProcess) {
  const TemporaryFolder folder;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const RunFolderLock lock(folder.path());
    [[maybe_unused]] const ssize_t written = ::write(ready[1], "x", 1);
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_THAT(error_of([&] { RunFolderLock lock(folder.path()); }),
              HasSubstr("process " + std::to_string(child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(error_of([&] { RunFolderLock lock(folder.path()); }), "no error");
}

}  // namespace
}  // namespace polyhead
