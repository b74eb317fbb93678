#include "framework/error.h"

#include <cstdio>

namespace polyhead {

void print_error(const std::string& message) {
  fmt::print(stderr, "polyhead: error: {}\n", message);
  std::fflush(stderr);
}

namespace internal {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw std::logic_error(
      fmt::format("{}:{}: internal check failed: {} ({})", file, line, message, condition));
}

}  // namespace internal
}  // namespace polyhead
