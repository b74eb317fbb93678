#include "framework/checkpoint/checkpoint_folder.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include "framework/comm/hang.h"
#include "framework/error.h"
#include "framework/files/folder.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kTemporarySuffix = ".polyhead-partial";
constexpr std::string_view kLatest = "latest";
constexpr std::string_view kTrainerFile = "trainer.json";

// The step of a checkpoint's name, or nothing for any other name.
std::optional<std::int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || checkpoint_name(step) != name) return std::nullopt;
  return step;
}

// The step of the latest checkpoint, or nothing where `run` holds none. What RUN/latest names is
// returned even if it is missing, where nothing earlier could stand in for it.
std::optional<std::int64_t> latest_step(const fs::path& run) {
  const std::vector<std::int64_t> steps = checkpoint_steps(run);
  if (steps.empty() || !file_exists(run / kLatest)) {
    return steps.empty() ? std::nullopt : std::optional(steps.back());
  }
  const MappedFile file(run / kLatest);
  std::string_view name = file.text();
  if (name.ends_with('\n')) name.remove_suffix(1);
  const std::int64_t named = step_of(name).value_or(steps.back());
  const auto later = std::ranges::upper_bound(steps, named);
  return later == steps.begin() ? named : *std::prev(later);
}

constexpr const char* kMend = "put the file back, or use another checkpoint";

// Removes a checkpoint, first its name: a half-removed one is never taken for a damaged one.
void discard(const fs::path& folder) {
  fs::path removed = folder;
  removed += fmt::format(".discarded{}", kTemporarySuffix);
  remove_folder(removed);
  rename_durably(folder, removed);
  remove_folder(removed);
}

void verify_file(const fs::path& folder, const FileRecord& record) {
  const fs::path path = folder / record.name;
  require(file_exists(path), "{}: {} is missing; {}", folder.string(), record.name, kMend);
  const MappedFile file(path);
  require(file.bytes().size() == record.bytes, "{}: {} bytes instead of {}, it was {}; {}",
          path.string(), file.bytes().size(), record.bytes,
          file.bytes().size() < record.bytes ? "truncated" : "extended", kMend);
  require(content_hash(file.bytes()) == record.xxh3_128,
          "{}: altered since it was written (its hash differs); {}", path.string(), kMend);
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("{}{:08}", kPrefix, step);
}

std::vector<std::int64_t> checkpoint_steps(const fs::path& run) {
  std::vector<std::int64_t> steps;
  if (!fs::is_directory(run)) return steps;
  for (const std::string& name : list_folder(run)) {
    if (const auto step = step_of(name)) steps.push_back(*step);
  }
  std::ranges::sort(steps);
  return steps;
}

void remove_stale_checkpoints(const fs::path& run) {
  for (const std::string& name : list_folder(run)) {
    if (name.starts_with(kPrefix) && name.ends_with(kTemporarySuffix)) remove_folder(run / name);
  }
}

CheckpointTransaction::CheckpointTransaction(fs::path destination)
    : destination_(std::move(destination)), temporary_(destination_) {
  temporary_ += kTemporarySuffix;
  remove_folder(temporary_);
  make_folder(temporary_);
}

CheckpointTransaction::~CheckpointTransaction() {
  // Failing to remove it is harmless: the next writer removes it.
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void CheckpointTransaction::finish(const TrainerState& state) {
  sync_subfolders();
  write_durably(temporary_, std::string(kTrainerFile), to_json(state));
  sync_folder(temporary_);
}

void CheckpointTransaction::sync_subfolders() const {
  for (const std::string& name : list_folder(temporary_)) {
    if (fs::is_directory(temporary_ / name)) sync_folder(temporary_ / name);
  }
}

void CheckpointTransaction::commit_model() {
  sync_subfolders();
  sync_folder(temporary_);
  rename_durably(temporary_, destination_);
}

void CheckpointTransaction::commit(const TrainerState& state) {
  finish(state);
  rename_durably(temporary_, destination_);
}

void CheckpointTransaction::commit_as_latest(const TrainerState& state) {
  finish(state);
  const fs::path run = destination_.parent_path();
  // Else the name would for a moment mean the old folder, of a continuation that was abandoned.
  if (fs::exists(destination_) && latest_step(run) != state.step) discard(destination_);
  set_latest(run, state.step);
  rename_durably(temporary_, destination_);
}

FileRecord copy_durably(const fs::path& from, const fs::path& folder, const std::string& name) {
  const MappedFile source(from);
  return write_durably(folder, name, source.text());
}

void set_latest(const fs::path& run, std::int64_t step) {
  replace_durably(run / kLatest, checkpoint_name(step) + "\n");
}

TrainerState verify_checkpoint(const fs::path& folder) {
  require(fs::is_directory(folder), "the checkpoint {} does not exist", folder.string());
  TrainerState state = read_trainer_state(folder);
  for (const FileRecord& file : state.files) {
    verify_file(folder, file);
    still_working();
  }
  return state;
}

fs::path newest_good_checkpoint(const fs::path& run,
                                const std::function<void(const std::string&)>& report_damage) {
  std::vector<std::int64_t> steps = checkpoint_steps(run);
  require(!steps.empty(), "{} holds no checkpoint", run.string());
  const std::int64_t latest = *latest_step(run);
  std::ranges::sort(steps, [&](std::int64_t a, std::int64_t b) {
    return std::pair(a <= latest, a) > std::pair(b <= latest, b);
  });
  std::string all_damage;
  for (const std::int64_t step : steps) {
    const fs::path folder = run / checkpoint_name(step);
    try {
      verify_checkpoint(folder);
      return folder;
    } catch (const std::exception& damage) {
      report_damage(damage.what());
      all_damage += fmt::format("\n  {}", damage.what());
    }
  }
  fail("{}: all {} checkpoints are damaged; mend one, or train in another checkpoint.folder:{}",
       run.string(), steps.size(), all_damage);
}

fs::path resolve_checkpoint(const fs::path& path) {
  require(fs::is_directory(path), "the checkpoint {} does not exist", path.string());
  if (file_exists(path / kTrainerFile)) return path;
  const std::optional<std::int64_t> latest = latest_step(path);
  require(latest.has_value(), "{} is no checkpoint and holds none (no {}, no {}* folders)",
          path.string(), kTrainerFile, kPrefix);
  return path / checkpoint_name(*latest);
}

void prune_checkpoints(const fs::path& run, std::int64_t keep_last, std::int64_t keep_every) {
  std::vector<std::int64_t> steps = checkpoint_steps(run);
  const std::optional<std::int64_t> latest = latest_step(run);
  std::erase_if(steps, [&](std::int64_t step) { return step > *latest; });
  const auto kept = static_cast<std::size_t>(std::max<std::int64_t>(keep_last, 1));
  if (steps.size() <= kept) return;
  steps.resize(steps.size() - kept);
  for (const std::int64_t step : steps) {
    if (keep_every > 0 && step % keep_every == 0) continue;
    discard(run / checkpoint_name(step));
  }
}

void require_free_space(const fs::path& run, std::uint64_t bytes_each, std::int64_t checkpoints) {
  std::error_code error;
  const fs::space_info space = fs::space(run, error);
  require(!error, "cannot tell the free space of {}: {}", run.string(), error.message());
  const double needed = static_cast<double>(bytes_each) * static_cast<double>(checkpoints);
  require(
      static_cast<double>(space.available) >= needed,
      "{}: {:.1f} MB are free, {} checkpoints of {:.1f} MB need {:.1f} MB; free space, keep fewer "
      "(checkpoint.keep_last, keep_every) or choose another checkpoint.folder",
      run.string(), static_cast<double>(space.available) / 1e6, checkpoints,
      static_cast<double>(bytes_each) / 1e6, needed / 1e6);
}

}  // namespace polyhead
