#include "framework/files/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "framework/error.h"
#include "framework/files/bus_error.h"

namespace polyhead {
namespace {

std::span<const std::byte> map(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  require(::fstat(descriptor, &status) == 0, "cannot read {}: {}", path.string(),
          std::strerror(errno));
  require(S_ISREG(status.st_mode), "{} is not a regular file", path.string());
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return {};
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  require(address != MAP_FAILED, "cannot map {}: {}", path.string(), std::strerror(errno));
  explain_bus_errors();
  return {static_cast<const std::byte*>(address), size};
}

}  // namespace

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
  // Opening a pipe without a writer would wait for one.
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  require(descriptor >= 0, "cannot open {}: {}", path_.string(), std::strerror(errno));
  try {
    bytes_ = map(descriptor, path_);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

std::string_view MappedFile::text() const {
  return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
}

}  // namespace polyhead
