#include "framework/error.h"

namespace polyhead::internal {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw std::logic_error(
      fmt::format("{}:{}: internal check failed: {} ({})", file, line, message, condition));
}

}  // namespace polyhead::internal
