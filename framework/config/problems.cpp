#include "framework/config/problems.h"

#include <algorithm>
#include <tuple>

#include "framework/error.h"

namespace polyhead {

std::string Place::to_string() const {
  return line == 0 ? source : fmt::format("{}:{}:{}", source, line, column);
}

void Problems::add(const Place& place, std::string_view key, std::string_view message) {
  const std::string blamed = key.empty() ? "" : fmt::format("{}: ", key);
  lines_.push_back(
      {place, std::string(key), fmt::format("{}: {}{}", place.to_string(), blamed, message)});
}

bool Problems::blames(std::string_view key) const {
  return std::any_of(lines_.begin(), lines_.end(),
                     [&](const Line& line) { return line.key == key; });
}

void Problems::throw_if_any() const {
  if (lines_.empty()) return;
  if (lines_.size() == 1) throw ConfigurationError(lines_.front().text);
  std::vector<Line> sorted = lines_;
  // Overrides, which have no line, come after the file.
  std::stable_sort(sorted.begin(), sorted.end(), [](const Line& a, const Line& b) {
    return std::tuple(a.place.line == 0, a.place.line, a.place.column) <
           std::tuple(b.place.line == 0, b.place.line, b.place.column);
  });
  std::string message = fmt::format("{} problems in the configuration:", sorted.size());
  for (const Line& line : sorted) message.append("\n").append(line.text);
  throw ConfigurationError(message);
}

namespace {

// Levenshtein's distance, with a swap of neighbours counting once.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      current[j] = std::min(
          {previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr std::size_t kLongestWord = 64;  // what is longer is no misspelt key
  if (word.size() > kLongestWord) return "";
  std::size_t best = std::max<std::size_t>(2, word.size() / 3) + 1;
  std::string result;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best) {
      best = distance;
      result = candidate;
    }
  }
  return result;
}

}  // namespace polyhead
