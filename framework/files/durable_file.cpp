#include "framework/files/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

#include "framework/error.h"

namespace polyhead {
namespace {

// Throws with the reason in errno and, for a full disk, how full it is.
[[noreturn]] void fail_with_errno(std::string_view action, const std::filesystem::path& path) {
  const int reason = errno;
  std::string hint;
  if (reason == ENOSPC || reason == EDQUOT) {
    std::error_code ignored;
    const auto space = std::filesystem::space(path.parent_path(), ignored);
    hint = fmt::format(" ({:.1f} MB free there); free space or save to another disk",
                       ignored ? 0.0 : static_cast<double>(space.available) / 1e6);
  }
  fail("cannot {} {}: {}{}", action, path.string(), std::strerror(reason), hint);
}

// Opens, syncs and closes; the descriptor never leaks.
void sync_path(const std::filesystem::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC);
  if (descriptor < 0) fail_with_errno("open", path);
  const bool synced = ::fsync(descriptor) == 0;
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  if (!synced) fail_with_errno("sync", path);
}

}  // namespace

DurableFile::DurableFile(std::filesystem::path path)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
  if (descriptor_ < 0) fail_with_errno("create", path_);
}

DurableFile::~DurableFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void DurableFile::write(std::span<const std::byte> bytes) {
  hash_.add(bytes);
  size_ += bytes.size();
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno("write", path_);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void DurableFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void DurableFile::finish() {
  if (::fsync(descriptor_) != 0) fail_with_errno("sync", path_);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_with_errno("close", path_);
}

FileRecord write_durably(const std::filesystem::path& folder, const std::string& name,
                         std::string_view text) {
  DurableFile file(folder / name);
  file.write(text);
  file.finish();
  return {name, file.size(), file.hash()};
}

void replace_durably(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::path temporary = path;
  temporary += ".partial";
  if (::unlink(temporary.c_str()) != 0 && errno != ENOENT) fail_with_errno("remove", temporary);
  DurableFile file(temporary);
  file.write(text);
  file.finish();
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail_with_errno("replace", path);
  sync_folder(path.parent_path());
}

void make_folder(const std::filesystem::path& folder) {
  if (::mkdir(folder.c_str(), 0755) != 0) fail_with_errno("make", folder);
}

void sync_folder(const std::filesystem::path& folder) {
  sync_path(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  const unsigned flags = std::filesystem::exists(to) ? RENAME_EXCHANGE : 0;
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) != 0) {
    require(errno != EINVAL || flags == 0,
            "cannot replace {}: this file system does not exchange folders; remove it first",
            to.string());
    fail_with_errno("make", to);
  }
  sync_folder(to.parent_path());
}

}  // namespace polyhead
