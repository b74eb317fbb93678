// Files that survive a crash: every write is checked, and nothing counts as written before fsync.
//
// The order that makes a folder appear whole or not at all: write and sync its files, sync the
// folder, rename it into place, sync the parent.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "framework/files/content_hash.h"

namespace polyhead {

// A new file, written from front to back. Hashes what it writes, so that it need not be read again.
class DurableFile {
 public:
  // Throws Error if the file exists or cannot be made.
  explicit DurableFile(std::filesystem::path path);
  ~DurableFile();  // without finish(): closes the incomplete file
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void finish();  // to the disk

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return size_; }
  std::string hash() const { return hash_.hex(); }

 private:
  std::filesystem::path path_;
  int descriptor_;
  std::uint64_t size_ = 0;
  ContentHash hash_;
};

// The name, size and hash of a finished file, as trainer.json lists it.
struct FileRecord {
  std::string name;  // relative to the checkpoint's folder
  std::uint64_t bytes = 0;
  std::string xxh3_128;
};

// Writes a whole new file and reports it under `name`.
FileRecord write_durably(const std::filesystem::path& folder, const std::string& name,
                         std::string_view text);
// Replaces a small file in one step: readers see the old text or the new.
void replace_durably(const std::filesystem::path& path, std::string_view text);

// Throws Error for a system call that failed: the action, the path, the reason in errno and, for a
// full disk, how much is left.
[[noreturn]] void fail_with_errno(std::string_view action, const std::filesystem::path& path);

}  // namespace polyhead
