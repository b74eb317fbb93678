// The folders of a run's checkpoints: RUN/step_00000200/, RUN/step_00000400/, ..., RUN/latest.
//
// A checkpoint appears whole or not at all: it is written into a temporary folder whose files are
// synced, trainer.json last; then RUN/latest, a text file with the folder's name, is replaced, and
// then the folder is renamed to it. A process killed anywhere in between leaves the previous
// checkpoint or the new one loadable. One process at a time (RunFolderLock) writes to a run folder.
//
// Below, the latest checkpoint is the one that RUN/latest names; where that is missing (a kill came
// before the folder had its name) the newest earlier one, and without RUN/latest the newest.
// Continuing from an earlier checkpoint is a matter of naming it there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "framework/checkpoint/trainer_state.h"

namespace polyhead {

std::string checkpoint_name(std::int64_t step);  // "step_00000200"

// Steps of the complete folders in `run`, ascending. Damage inside is not looked for.
std::vector<std::int64_t> checkpoint_steps(const std::filesystem::path& run);

// Removes the temporary folders that killed writers left in `run`.
void remove_stale_checkpoints(const std::filesystem::path& run);

// A checkpoint being written. Unless commit() succeeds the temporary folder disappears again.
class CheckpointTransaction {
 public:
  // Makes the temporary folder beside `destination`, whose parent exists.
  explicit CheckpointTransaction(std::filesystem::path destination);
  ~CheckpointTransaction();
  CheckpointTransaction(const CheckpointTransaction&) = delete;
  CheckpointTransaction& operator=(const CheckpointTransaction&) = delete;

  const std::filesystem::path& folder() const { return temporary_; }
  // Writes trainer.json and puts the folder in its place; one of the same name is replaced.
  void commit(const TrainerState& state);
  // The same without trainer.json: a model folder that is no checkpoint.
  void commit_model();
  // The same for a checkpoint of a run, which becomes its latest.
  void commit_as_latest(const TrainerState& state);

 private:
  void finish(const TrainerState& state);
  void sync_subfolders() const;

  std::filesystem::path destination_;
  std::filesystem::path temporary_;
};

// Copies a file's bytes into a checkpoint under `name`.
FileRecord copy_durably(const std::filesystem::path& from, const std::filesystem::path& folder,
                        const std::string& name);

// Points RUN/latest at a checkpoint.
void set_latest(const std::filesystem::path& run, std::int64_t step);

// Compares size and hash of every file that trainer.json lists. Throws Error naming the file that
// is missing, truncated, extended or altered; the state otherwise. Reads the whole checkpoint.
TrainerState verify_checkpoint(const std::filesystem::path& folder);

// The newest checkpoint of `run` that verifies: the latest, then earlier ones, then any later ones.
// `report_damage` hears of each that was passed over. Throws Error if none is good.
std::filesystem::path newest_good_checkpoint(
    const std::filesystem::path& run, const std::function<void(const std::string&)>& report_damage);

// The checkpoint that `path` names: itself, or of a run folder the latest. Damage inside is not
// looked for, and never passed over: the user asked for this one.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

// Removes all but the last `keep_last` checkpoints and those whose step is a multiple of
// `keep_every` (0: none). The latest is always kept, and so are later steps: they belong to a run
// that was continued from an earlier checkpoint.
void prune_checkpoints(const std::filesystem::path& run, std::int64_t keep_last,
                       std::int64_t keep_every);

// Requires room for `checkpoints` checkpoints of `bytes_each` bytes on the disk of `run`.
void require_free_space(const std::filesystem::path& run, std::uint64_t bytes_each,
                        std::int64_t checkpoints);

}  // namespace polyhead
