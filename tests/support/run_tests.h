// What every test's main does.
#pragma once

namespace polyhead::testing {

// Runs all tests. Under mpirun all ranks run the same tests: rank 0 prints, the others add their
// failures, and one rank's failure fails all. A rank that leaves the common path ends the run by
// the watchdog of the communicator.
int run_tests(int argc, char** argv);

}  // namespace polyhead::testing
