// A file's bytes, mapped into memory for reading: pages are read when they are touched and shared
// between the ranks of one machine. A file that is cut short meanwhile ends the process with a
// message that names it (framework/files/bus_error.h).
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace polyhead {

class MappedFile {
 public:
  // Throws Error if `path` is no regular file or cannot be read.
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const;

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

}  // namespace polyhead
