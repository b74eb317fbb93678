// extract_austen DATABASE FOLDER: one plain text file per novel.
//
// DATABASE is the lazy-load database of Debian's r-cran-janeaustenr (dpkg -x needs no root):
// usr/lib/R/site-library/janeaustenr/data/Rdata. Any other database of character vectors works too;
// each vector becomes FOLDER/NAME.txt, one line per element.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>

#include "data/r_lazy_load.h"
#include "framework/files/durable_file.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: extract_austen DATABASE FOLDER (DATABASE without .rdx and .rdb)\n");
    return 2;
  }
  try {
    const std::filesystem::path folder = argv[2];
    const auto novels = polyhead::read_r_character_vectors(argv[1]);
    std::filesystem::create_directories(folder);
    for (const auto& [name, lines] : novels) {
      std::string text;
      for (const std::string& line : lines) text += line + "\n";
      polyhead::replace_durably(folder / (name + ".txt"), text);
      fmt::print("{}: {} bytes\n", (folder / (name + ".txt")).string(), text.size());
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "extract_austen: {}\n", error.what());
    return 1;
  }
}
