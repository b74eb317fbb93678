#include "tests/support/run_tests.h"

int main(int argc, char** argv) {
  return polyhead::testing::run_tests(argc, argv);
}
