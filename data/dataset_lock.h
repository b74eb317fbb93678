// One writer per dataset: two would mix their files.
#pragma once

#include <string>

namespace polyhead {

// Holds PREFIX.lock while it lives. The kernel drops the lock with the process; the empty file
// stays.
class DatasetLock {
 public:
  // Makes the folder where needed. Throws Error, naming the dataset, if it is taken.
  explicit DatasetLock(const std::string& prefix);
  ~DatasetLock();
  DatasetLock(const DatasetLock&) = delete;
  DatasetLock& operator=(const DatasetLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace polyhead
