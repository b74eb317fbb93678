#include "framework/comm/launcher.h"

#include <cstdlib>
#include <initializer_list>

#include "framework/error.h"

namespace polyhead {
namespace {

int number_in(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? 0 : std::atoi(value);
}

int first_number_of(std::initializer_list<const char*> variables) {
  for (const char* variable : variables) {
    if (std::getenv(variable) != nullptr) return number_in(variable);
  }
  return 0;
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
  return first_number_of({"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"});
}

int launched_local_rank() {
  return first_number_of({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"});
}

}  // namespace polyhead
