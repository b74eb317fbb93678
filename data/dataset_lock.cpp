#include "data/dataset_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "framework/error.h"

namespace polyhead {

DatasetLock::DatasetLock(const std::string& prefix) {
  const std::filesystem::path path = prefix + ".lock";
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path());
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  require(descriptor_ >= 0, "cannot open {}: {}", path.string(), std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  ::close(descriptor_);
  require(reason == EWOULDBLOCK, "cannot lock {}: {}", path.string(), std::strerror(reason));
  fail("{} is being written by another process; wait for it to end or choose another --output",
       prefix);
}

DatasetLock::~DatasetLock() {
  ::close(descriptor_);
}

}  // namespace polyhead
