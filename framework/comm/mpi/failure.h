// What to do when MPI itself fails.
//
// The communicators ask MPI for error codes: left to itself it would print paragraphs of its own.
// Every call that talks to other ranks is checked here.
#pragma once

#include <string>

namespace polyhead::mpi {

// Prints "polyhead: error: MESSAGE" and ends all ranks, as end_job does. For what several ranks may
// find in the same moment: the lowest of them tells it, and ends the others before they do.
[[noreturn]] void end_job_once(const std::string& message, int exit_code);

// Ends the job unless `code`, which `call` returned, is MPI_SUCCESS: "rank 1: MPI_Isend failed:
// ...".
void require_success(int code, const char* call);

}  // namespace polyhead::mpi
