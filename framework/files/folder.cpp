#include "framework/files/folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "framework/error.h"
#include "framework/files/durable_file.h"

namespace polyhead {

namespace fs = std::filesystem;

bool file_exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) || error;
}

bool stays_below(const std::string& name) {
  const fs::path path = name;
  const auto controls = [](char c) { return static_cast<unsigned char>(c) < 0x20; };
  return !name.empty() && !path.is_absolute() && std::ranges::find(path, "..") == path.end() &&
         std::ranges::none_of(name, controls);
}

std::vector<std::string> list_folder(const fs::path& folder) {
  try {
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      names.push_back(entry.path().filename().string());
    }
    std::ranges::sort(names);
    return names;
  } catch (const fs::filesystem_error& error) {
    fail("cannot list {}: {}", folder.string(), error.code().message());
  }
}

void make_folder(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0755) != 0) fail_with_errno("make", folder);
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  require(!error, "cannot remove {}: {}", folder.string(), error.message());
}

void sync_folder(const fs::path& folder) {
  const fs::path path = folder.empty() ? fs::path(".") : folder;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_with_errno("open", path);
  const bool synced = ::fsync(descriptor) == 0;
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  if (!synced) fail_with_errno("sync", path);
}

void rename_durably(const fs::path& from, const fs::path& to) {
  const bool exchange = fs::is_directory(fs::status(to));
  const int result =
      exchange ? ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE)
               : ::rename(from.c_str(), to.c_str());
  if (result != 0) {
    require(!exchange || errno != EINVAL,
            "cannot replace {}: this file system does not exchange folders; remove it first",
            to.string());
    fail_with_errno("make", to);
  }
  sync_folder(to.parent_path());
}

}  // namespace polyhead
