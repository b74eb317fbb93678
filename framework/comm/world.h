// World: all ranks of the job, from construction to destruction.
//
// MPI's world where mpirun (or srun with PMI) started the process, else the group of one. One
// World a process, made first thing in main. Its destructor waits for all ranks to come to an end.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "framework/comm/communicator.h"

namespace polyhead {

class World {
 public:
  // Throws Error when a launcher started several ranks and this binary cannot connect them.
  World(int& argc, char**& argv);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  const Communicator& communicator() const;

  // Called where a rank failed: tells the others and learns which of them failed in the same
  // moment. One message per rank, empty where none came within two seconds: such ranks still work
  // and only abort() ends them.
  std::vector<std::string> exchange_failures(const std::string& mine) const;

  // Ends all ranks at once with this exit code.
  [[noreturn]] void abort(int exit_code) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace polyhead
