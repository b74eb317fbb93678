// What to tell when a mapped file can no longer be read.
#pragma once

namespace polyhead {

// Since the file was mapped it was cut short, or its disk fails. The kernel reports that by the
// signal SIGBUS, of which a process dies without a word; from the first call on it tells an error
// that names the file, and exits with kExitFailure. Of ranks that find it together rank 0 alone
// tells it.
void explain_bus_errors();

}  // namespace polyhead
