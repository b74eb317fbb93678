// Folders whose changes survive a crash, with errors that name them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace polyhead {

// The names in a folder, sorted.
std::vector<std::string> list_folder(const std::filesystem::path& folder);

void make_folder(const std::filesystem::path& folder);    // must not exist
void remove_folder(const std::filesystem::path& folder);  // with all it holds; may not exist
void sync_folder(const std::filesystem::path& folder);    // its list of names, to the disk

// Renames a folder to a name in the same parent and syncs the parent. A folder that already has
// the name changes places with it, in one step; throws where the file system cannot do that.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace polyhead
