#include "framework/comm/mpi/failure.h"

#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <thread>

#include "framework/comm/mpi/watchdog.h"
#include "framework/exit_code.h"

namespace polyhead::mpi {
namespace {

int world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

}  // namespace

void end_job_once(const std::string& message, int exit_code) {
  std::this_thread::sleep_for(std::min(world_rank(), 2) * std::chrono::milliseconds(1500));
  end_job(message, exit_code);
}

void require_success(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  end_job_once(fmt::format("rank {}: {} failed: {}", world_rank(), call,
                           std::string_view(text, static_cast<std::size_t>(length))),
               kExitFailure);
}

}  // namespace polyhead::mpi
