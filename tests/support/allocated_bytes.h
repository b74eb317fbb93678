// How much memory a piece of work asks for.
#pragma once

#include <cstddef>

namespace polyhead::testing {

// By operator new since the process began, what was freed included. A test that calls this links
// allocated_bytes.cpp, which replaces operator new.
std::size_t allocated_bytes();

}  // namespace polyhead::testing
