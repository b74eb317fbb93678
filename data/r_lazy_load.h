// Character vectors from an R package's lazy-load database, without R.
//
// FOLDER/NAME.rdx is a gzipped list that tells, for each variable, where its value lies in
// FOLDER/NAME.rdb: a big-endian length, then a zlib stream. Both hold R's XDR serialisation
// (R Internals, section 1.8, versions 2 and 3).
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace polyhead {

// `database` is FOLDER/NAME. Throws Error, naming the file, for anything that is not such a
// database or breaks off.
std::map<std::string, std::vector<std::string>> read_r_character_vectors(
    const std::filesystem::path& database);

}  // namespace polyhead
