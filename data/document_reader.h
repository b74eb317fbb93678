// Documents of text from files.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace polyhead {

struct DocumentFormat {
  // JSON lines: the key of each object that holds its text. Files named .jsonl or .json are read as
  // JSON lines by the key "text" where none is given; with a key all files are.
  std::optional<std::string> json_key;
  // Plain text: a line that ends a document, without its line feed; absent: one document per file.
  std::optional<std::string> separator;
};

// Calls visit with each document in turn; empty ones are left out. A folder stands for all files
// below it, by name. Throws Error, naming file and line, for text that is not UTF-8 or a line that
// is not a JSON object with a string under the key. Files are mapped, so memory stays flat.
void read_documents(const std::vector<std::filesystem::path>& inputs, const DocumentFormat& format,
                    const std::function<void(std::string_view)>& visit);

}  // namespace polyhead
