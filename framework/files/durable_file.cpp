#include "framework/files/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

#include "framework/error.h"
#include "framework/files/folder.h"

namespace polyhead {

void fail_with_errno(std::string_view action, const std::filesystem::path& path) {
  const int reason = errno;
  std::string hint;
  if (reason == ENOSPC || reason == EDQUOT) {
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(path.parent_path(), error);
    const double free = error ? 0.0 : static_cast<double>(space.available);
    hint = fmt::format(" ({:.1f} MB free there); free space or save to another disk", free / 1e6);
  }
  fail("cannot {} {}: {}{}", action, path.string(), std::strerror(reason), hint);
}

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

}  // namespace polyhead
