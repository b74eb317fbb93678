// All that is wrong with a configuration, told at once.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace polyhead {

// Where a key or value stands: "file.yaml:3:14", or the source alone ("--set model.num_layers=x")
// where line is 0. Lines and columns count from 1.
struct Place {
  std::string source;
  int line = 0;
  int column = 0;

  std::string to_string() const;
};

class Problems {
 public:
  // Reads "file.yaml:3:14: model.num_layers: message"; an empty key is left out.
  void add(const Place& place, std::string_view key, std::string_view message);
  // Whether a problem with this key is known already.
  bool blames(std::string_view key) const;
  bool empty() const { return lines_.empty(); }
  // Throws one ConfigurationError with a line for each problem, in the order of the file.
  void throw_if_any() const;

 private:
  struct Line {
    Place place;
    std::string key;
    std::string text;
  };
  std::vector<Line> lines_;
};

// The candidate closest to a misspelt word, or empty where none is close.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace polyhead
