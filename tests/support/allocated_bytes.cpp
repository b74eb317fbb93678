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

// The forms for arrays and with a size call these. The one that does not throw calls the first too,
// but for AddressSanitizer's, which would then find its memory freed here.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  total += size;
  return std::malloc(size > 0 ? size : 1);
}
void* operator new(std::size_t size) {
  if (void* const memory = operator new(size, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
