// Errors carry one sentence for the user: what is wrong, with its value, and the fix.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace polyhead {

// Thrown for everything a user can mend: a configuration, a file, a launch. The command line prints
// what() once and exits with a non-zero status; no stack trace.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A command line or a configuration that cannot be used; the exit status is 2, not 1.
class ConfigurationError : public Error {
 public:
  using Error::Error;
};

// Throws Error with a formatted message.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// Throws Error with a formatted message unless `condition` holds.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(format, std::forward<Args>(args)...);
}

// Text from a file for a message: its first `longest` bytes, cut between characters, with a
// question mark for each control character, which a terminal could obey.
std::string excerpt(std::string_view text, std::size_t longest = 200);

// "polyhead: error: MESSAGE" on stderr. For the end of the process only: what is thrown is printed
// there, once.
void print_error(const std::string& message);

namespace internal {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& message);
}  // namespace internal

}  // namespace polyhead

// Guards a contract between parts of the program (shapes, dtypes, order of calls). A failure is a
// defect of ours and names the place; use polyhead::require for what a user can cause.
#define POLYHEAD_CHECK(condition, ...)                                   \
  do {                                                                   \
    if (!(condition)) [[unlikely]]                                       \
      ::polyhead::internal::check_failed(__FILE__, __LINE__, #condition, \
                                         ::fmt::format(__VA_ARGS__));    \
  } while (false)
