#include "framework/comm/launcher.h"

#include <cstdlib>

#include "framework/error.h"

namespace polyhead {
namespace {

int number_in(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? 0 : std::atoi(value);
}

}  // namespace

std::optional<int> launched_ranks() {
  // Open MPI; MPICH, Intel MPI and Slurm's PMI2.
  for (const char* size : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (number_in(size) > 0) return number_in(size);
  }
  const int tasks = number_in("SLURM_STEP_NUM_TASKS");
  if (std::getenv("PMIX_RANK") != nullptr) return tasks > 0 ? tasks : 1;
  require(tasks <= 1,
          "srun started {} tasks that cannot find each other; use srun --mpi=pmix, or mpirun",
          tasks);
  return std::nullopt;
}

int launched_rank() {
  for (const char* rank : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"}) {
    if (std::getenv(rank) != nullptr) return number_in(rank);
  }
  return 0;
}

}  // namespace polyhead
