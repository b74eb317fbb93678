#include "framework/run/run_log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "framework/comm/launcher.h"
#include "framework/error.h"
#include "framework/files/durable_file.h"
#include "framework/files/json.h"

namespace polyhead {
namespace {

constexpr const char* kFile = "log.jsonl";

// Of a line of the log; nothing for a line that a crash cut off.
std::optional<std::int64_t> step_of(const std::string& line, const std::string& source) {
  try {
    const nlohmann::json record = parse_json(line, source);
    const bool has_step = record.is_object() && record.contains("step");
    if (!has_step || !record["step"].is_number_integer()) return std::nullopt;
    return record["step"].get<std::int64_t>();
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Rewrites the log without the lines behind `restored_step`.
void keep_up_to(const std::filesystem::path& path, std::int64_t restored_step) {
  std::ifstream in(path);
  if (!in) return;
  std::string kept;
  for (std::string line; std::getline(in, line);) {
    const std::optional<std::int64_t> step = step_of(line, path.string());
    if (step && *step <= restored_step) kept += line + "\n";
  }
  in.close();
  replace_durably(path, kept);
}

std::string bar(const StepRecord& record) {
  constexpr int kWidth = 40;
  const double part = static_cast<double>(record.step) /
                      static_cast<double>(std::max<std::int64_t>(1, record.total_steps));
  const auto filled = static_cast<std::size_t>(std::lround(part * kWidth));
  return fmt::format("[{:<{}}] {:3.0f} %, {} left", std::string(filled, '='), kWidth, 100 * part,
                     describe_duration(record.remaining_seconds));
}

}  // namespace

std::string describe_duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::max(0.0, seconds)));
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string describe(const StepRecord& record) {
  const std::string peak =
      record.share_of_peak ? fmt::format(" ({:.1f} % of peak)", 100 * *record.share_of_peak) : "";
  const std::string distillation =
      record.distillation_loss
          ? fmt::format(" | distillation_loss {:.4f}", *record.distillation_loss)
          : "";
  return fmt::format(
      "step {}/{} | loss {:.4f} | ppl {:.2f}{} | lr {:.3e} | grad_norm {:.3f} | {:.0f} tokens/s | "
      "{:.3g} TFLOP/s{} | {} elapsed | {} left | skipped {}",
      record.step, record.total_steps, record.loss, std::exp(record.loss), distillation,
      record.learning_rate, record.gradient_norm, record.tokens_per_second, record.teraflops, peak,
      describe_duration(record.elapsed_seconds), describe_duration(record.remaining_seconds),
      record.skipped_steps);
}

std::string describe(const EvaluationRecord& record) {
  return fmt::format("step {} | validation loss {:.4f} | ppl {:.2f} | {} tokens in {:.1f} s",
                     record.step, record.loss, std::exp(record.loss), record.tokens,
                     record.seconds);
}

// The history of the run is the file: that it cannot be written ends the run. A console that went
// away does not, and spdlog says nothing of it.
struct RunLog::Output {
  std::filesystem::path path;
  std::ofstream file;
  spdlog::logger console{"run", std::make_shared<spdlog::sinks::stdout_sink_st>()};
  // mpirun gives its ranks a terminal even where its own output goes to a file; scripts/launch.sh
  // knows where it goes.
  bool on_terminal = std::getenv("POLYHEAD_TERMINAL") != nullptr ||
                     (isatty(STDOUT_FILENO) != 0 && !launched_ranks());
  std::string last_bar = {};

  explicit Output(std::filesystem::path log) : path(std::move(log)), file(path, std::ios::app) {
    console.set_pattern("%Y-%m-%d %H:%M:%S %v");
  }

  void line(std::string_view text) {
    if (!last_bar.empty()) fmt::print("\r\033[K");
    console.info(text);
    if (last_bar.empty()) return;
    fmt::print("{}", last_bar);
    std::fflush(stdout);
  }
  void json(std::string_view event, std::int64_t step, nlohmann::ordered_json fields) {
    nlohmann::ordered_json record = {{"event", event}, {"step", step}};
    record.update(fields);
    file << record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n'
         << std::flush;
    require(file.good(), "{}: cannot be written; is the disk full?", path.string());
  }
};

RunLog::RunLog(const std::filesystem::path& run, std::int64_t restored_step, bool writes) {
  if (!writes) return;
  const std::filesystem::path path = run / kFile;
  keep_up_to(path, restored_step);
  output_ = std::make_unique<Output>(path);
  require(output_->file.good(), "{}: cannot be written", path.string());
}

RunLog::~RunLog() {
  if (output_ && !output_->last_bar.empty()) fmt::print("\n");
}

void RunLog::step(const StepRecord& record) {
  if (!output_) return;
  if (output_->on_terminal) output_->last_bar = bar(record);
  output_->line(describe(record));
  nlohmann::ordered_json fields = {{"total_steps", record.total_steps},
                                   {"loss", record.loss},
                                   {"learning_rate", record.learning_rate},
                                   {"grad_norm", record.gradient_norm},
                                   {"tokens", record.tokens},
                                   {"seconds", record.seconds},
                                   {"tokens_per_second", record.tokens_per_second},
                                   {"teraflops", record.teraflops},
                                   {"elapsed_seconds", record.elapsed_seconds},
                                   {"remaining_seconds", record.remaining_seconds},
                                   {"skipped_steps", record.skipped_steps},
                                   {"communication_calls", record.communication_calls},
                                   {"communication_bytes", record.communication_bytes}};
  if (record.distillation_loss) fields["distillation_loss"] = *record.distillation_loss;
  if (record.share_of_peak) fields["share_of_peak"] = *record.share_of_peak;
  output_->json("step", record.step, std::move(fields));
}

void RunLog::evaluation(const EvaluationRecord& record) {
  if (!output_) return;
  output_->line(describe(record));
  output_->json("evaluation", record.step,
                {{"loss", record.loss}, {"tokens", record.tokens}, {"seconds", record.seconds}});
}

void RunLog::skipped(std::int64_t step, std::string_view problem) {
  if (!output_) return;
  output_->line(fmt::format("step {} | update skipped: {}", step, problem));
  output_->json("skipped", step, {{"problem", problem}});
}

void RunLog::note(std::int64_t step, std::string_view text) {
  if (!output_) return;
  output_->line(text);
  output_->json("note", step, {{"text", text}});
}

}  // namespace polyhead
