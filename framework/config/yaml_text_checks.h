// What must hold of a configuration's bytes before the parser sees them.
#pragma once

#include <string>
#include <string_view>

#include "framework/config/problems.h"

namespace polyhead {

// Adds a problem for the first offence of each kind: size, byte-order mark, UTF-8, tabs, control
// characters, depth. False: not fit for the parser.
bool check_yaml_text(std::string_view text, const std::string& source, Problems& problems);

}  // namespace polyhead
