// Folders whose changes survive a crash, with errors that name them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace polyhead {

// Whether there is a file or folder of this name; a link counts as what it leads to. Where that
// cannot be told (a loop of links, no permission, a name too long) the answer is yes: to open it
// then fails with the reason.
bool file_exists(const std::filesystem::path& path);

// Whether a name that a file gives stays below the folder that it is joined to: not empty, not
// absolute, without "..", and without control characters, of which a zero would end it early.
bool stays_below(const std::string& name);

// The names in a folder, sorted.
std::vector<std::string> list_folder(const std::filesystem::path& folder);

void make_folder(const std::filesystem::path& folder);    // must not exist
void remove_folder(const std::filesystem::path& folder);  // with all it holds; may not exist
void sync_folder(const std::filesystem::path& folder);    // its list of names, to the disk

// Renames a folder to a name in the same parent and syncs the parent. A folder that already has
// the name changes places with it, in one step; throws where the file system cannot do that.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace polyhead
