#include "data/dataset_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;

TEST(DatasetLock, RefusesASecondWriter) {
  const testing::TemporaryFolder folder;
  const std::string prefix = (folder / "text" / "train").string();
  {
    const DatasetLock lock(prefix);
    EXPECT_THAT(error_of([&] { DatasetLock second(prefix); }),
                AllOf(HasSubstr(prefix + " is being written"), HasSubstr("another --output")));
    EXPECT_EQ(error_of([&] { DatasetLock other(prefix + "2"); }), "no error");
  }
  EXPECT_EQ(error_of([&] { DatasetLock again(prefix); }), "no error");
}

// It may lie in a folder that is tokenized.
TEST(DatasetLock, LeavesNoText) {
  const testing::TemporaryFolder folder;
  { const DatasetLock lock((folder / "train").string()); }
  EXPECT_TRUE(std::filesystem::is_empty(folder / "train.lock"));
}

}  // namespace
}  // namespace polyhead
