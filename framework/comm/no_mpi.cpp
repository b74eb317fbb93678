// The world of a build without MPI: one rank.
#include <cstdlib>

#include "framework/comm/launcher.h"
#include "framework/comm/world.h"
#include "framework/error.h"

namespace polyhead {

struct World::State {
  std::unique_ptr<Communicator> communicator = make_solo_communicator();
};

World::World(int&, char**&) : state_(std::make_unique<State>()) {
  const int ranks = launched_ranks().value_or(1);
  require(ranks == 1,
          "{} ranks were started, but this binary was built without MPI and runs one: configure "
          "with -DPOLYHEAD_WITH_MPI=ON",
          ranks);
}

World::~World() = default;

const Communicator& World::communicator() const {
  return *state_->communicator;
}

std::vector<std::string> World::exchange_failures(const std::string& mine) const {
  return {mine};
}

void World::abort(int exit_code) const {
  std::_Exit(exit_code);
}

}  // namespace polyhead
