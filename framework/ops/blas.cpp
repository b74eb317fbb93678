#include "framework/ops/blas.h"

#include <fmt/format.h>

#include <cstdint>
#include <string_view>

#include "framework/ops/matmul.h"

// Weak: null unless the linked library is the one that has them.
extern "C" {
[[gnu::weak]] void openblas_set_num_threads(int threads);
[[gnu::weak]] char* openblas_get_config(void);
[[gnu::weak]] char* openblas_get_corename(void);
[[gnu::weak]] void bli_thread_set_num_threads(std::int64_t threads);
[[gnu::weak]] const char* bli_info_get_version_str(void);
[[gnu::weak]] int bli_arch_query_id(void);
[[gnu::weak]] const char* bli_arch_string(int id);
}

namespace polyhead::ops {

void make_blas_single_threaded() {
  [[maybe_unused]] static const bool done = [] {
    if (openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
    if (bli_thread_set_num_threads != nullptr) bli_thread_set_num_threads(1);
    return true;
  }();
}

std::string blas_description() {
  if (openblas_get_config != nullptr && openblas_get_corename != nullptr) {
    // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..."
    const std::string_view config = openblas_get_config();
    return fmt::format("{} {}", config.substr(0, config.find(' ', config.find(' ') + 1)),
                       openblas_get_corename());
  }
  if (bli_info_get_version_str != nullptr && bli_arch_query_id != nullptr &&
      bli_arch_string != nullptr) {
    return fmt::format("BLIS {} {}", bli_info_get_version_str(),
                       bli_arch_string(bli_arch_query_id()));
  }
  return "unknown CBLAS";
}

}  // namespace polyhead::ops
