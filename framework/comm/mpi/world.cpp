// The world of a build with MPI.
#include "framework/comm/world.h"

#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <cstdlib>
#include <numeric>
#include <optional>

#include "framework/comm/hang.h"
#include "framework/comm/launcher.h"
#include "framework/comm/mpi/failure.h"
#include "framework/comm/mpi/mpi_communicator.h"
#include "framework/error.h"

namespace polyhead {
namespace {

class MpiSession {
 public:
  MpiSession(int& argc, char**& argv) {
    int provided = 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided);
    require(provided >= MPI_THREAD_SERIALIZED,
            "this MPI does not take calls of several threads in turn (MPI_THREAD_SERIALIZED)");
    // Every communicator descends from this one and inherits that.
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  }
  ~MpiSession() { MPI_Finalize(); }
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
};

std::unique_ptr<Communicator> connect_world(mpi::Watchdog& watchdog) {
  MPI_Comm comm = MPI_COMM_NULL;
  mpi::require_success(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  std::vector<int> world_ranks(static_cast<std::size_t>(watchdog.size()));
  std::iota(world_ranks.begin(), world_ranks.end(), 0);
  return std::make_unique<mpi::MpiCommunicator>(comm, watchdog.rank(), std::move(world_ranks),
                                                watchdog, nullptr);
}

std::string describe_process() {
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  return fmt::format("process {} on {}", getpid(), host);
}

}  // namespace

struct World::State {
  // Made and destroyed in this order; all but the communicator are absent without a launcher.
  std::optional<MpiSession> session;
  std::optional<mpi::Watchdog> watchdog;
  std::unique_ptr<Communicator> communicator;
};

World::World(int& argc, char**& argv) : state_(std::make_unique<State>()) {
  const std::optional<int> launched = launched_ranks();
  if (!launched) {
    state_->communicator = make_solo_communicator();
    return;
  }
  state_->session.emplace(argc, argv);
  state_->watchdog.emplace();
  const int ranks = state_->watchdog->size();
  require(ranks > 1 || *launched == 1,
          "{} ranks were started, but each finds itself alone: start them with the mpirun of the "
          "MPI that this binary was built with",
          *launched);
  state_->communicator = connect_world(*state_->watchdog);
  mpi::Watchdog* const watchdog = &*state_->watchdog;
  set_sign_of_life([watchdog] { watchdog->tell_working(); });
  state_->watchdog->set_processes(state_->communicator->all_gather_strings(describe_process()));
  state_->watchdog->look_out();
}

World::~World() {
  set_sign_of_life(nullptr);
  if (state_->watchdog) state_->watchdog->finish();
}

const Communicator& World::communicator() const {
  return *state_->communicator;
}

std::vector<std::string> World::exchange_failures(const std::string& mine) const {
  if (!state_->watchdog) return {mine};
  return state_->watchdog->exchange_failures(mine);
}

void World::abort(int exit_code) const {
  if (state_->session) MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace polyhead
