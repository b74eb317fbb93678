// One run per folder: two processes writing checkpoints and logs into one folder would destroy both
// runs.
#pragma once

#include <filesystem>

namespace polyhead {

// Holds FOLDER/.lock while it lives. The kernel drops the lock with the process, however it dies,
// so a lock never has to be removed by hand. Taken by world rank 0 alone.
class RunFolderLock {
 public:
  // Makes the folder where needed. Throws Error, naming the process and host, if it is taken.
  explicit RunFolderLock(const std::filesystem::path& folder);
  ~RunFolderLock();
  RunFolderLock(const RunFolderLock&) = delete;
  RunFolderLock& operator=(const RunFolderLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace polyhead
