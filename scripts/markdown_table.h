// A table in Markdown whose columns are aligned, so that a terminal shows it well.
#pragma once

#include <string>
#include <vector>

namespace polyhead {

using TableRow = std::vector<std::string>;

// The first row is the heading; all rows have as many cells. The first `words` columns are aligned
// to the left, the others, numbers, to the right.
std::string markdown_table(const std::vector<TableRow>& rows, std::size_t words);

}  // namespace polyhead
