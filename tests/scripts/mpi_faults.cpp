// Lets the MPI call that $FAILING_CALL names fail once, in rank 1's 100th such call.
#include <mpi.h>

#include <cstdlib>
#include <string_view>

namespace {

bool fails(std::string_view call) {
  static const char* const failing = std::getenv("FAILING_CALL");
  static int calls = 0;
  if (failing == nullptr || call != failing) return false;
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank == 1 && ++calls == 100;
}

}  // namespace

// In place of MPI's own, which its profiling interface keeps under other names.
extern "C" {

int MPI_Isend(const void* data, int count, MPI_Datatype type, int rank, int tag, MPI_Comm comm,
              MPI_Request* request) {
  if (fails("MPI_Isend")) return MPI_ERR_OTHER;
  return PMPI_Isend(data, count, type, rank, tag, comm, request);
}

int MPI_Testsome(int count, MPI_Request requests[], int* done, int indices[],
                 MPI_Status statuses[]) {
  const int code = PMPI_Testsome(count, requests, done, indices, statuses);
  if (code != MPI_SUCCESS || *done == 0 || !fails("MPI_Testsome")) return code;
  for (int i = 0; i < *done; ++i) statuses[i].MPI_ERROR = MPI_SUCCESS;
  statuses[*done - 1].MPI_ERROR = MPI_ERR_OTHER;
  return MPI_ERR_IN_STATUS;
}

}  // extern "C"
