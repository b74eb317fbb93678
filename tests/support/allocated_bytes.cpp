#include "tests/support/allocated_bytes.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<std::size_t> total = 0;
}  // namespace

namespace polyhead::testing {

std::size_t allocated_bytes() {
  return total;
}

}  // namespace polyhead::testing

// The forms for arrays and with a size call these.
void* operator new(std::size_t size) {
  total += size;
  if (void* const memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
