#include "scripts/markdown_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace polyhead {

std::string markdown_table(const std::vector<TableRow>& rows, std::size_t words) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const TableRow& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (std::size_t line = 0; line < rows.size(); ++line) {
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += i < words ? fmt::format("| {:<{}} ", rows[line][i], widths[i])
                        : fmt::format("| {:>{}} ", rows[line][i], widths[i]);
    }
    text += "|\n";
    if (line > 0) continue;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += fmt::format("|{:-<{}}{}", "", widths[i] + 1, i < words ? "-" : ":");
    }
    text += "|\n";
  }
  return text;
}

}  // namespace polyhead
