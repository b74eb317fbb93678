// What a run tells: lines on stdout, and the same as JSON lines in RUN/log.jsonl.
//
// log.jsonl holds one object a line with "event" and "step". A resumed run first removes the lines
// of steps behind the restored one (and a line that a kill cut short), so the file is always the
// history of one run without repetitions. A process started alone on a terminal, or by
// scripts/launch.sh on one (which sets POLYHEAD_TERMINAL), shows a bar below the last line;
// anywhere else there are plain lines alone.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace polyhead {

struct StepRecord {
  std::int64_t step = 0;
  std::int64_t total_steps = 0;
  double loss = 0;
  std::optional<double> distillation_loss = {};  // absent without a teacher
  double learning_rate = 0;
  double gradient_norm = 0;
  std::int64_t tokens = 0;                   // consumed by the whole run
  double seconds = 0;                        // of this step
  double tokens_per_second = 0;              // mean over the last steps, all ranks together
  double teraflops = 0;                      // the same, of the model's own arithmetic
  std::optional<double> share_of_peak = {};  // absent where the machine's peak is unknown
  double elapsed_seconds = 0;
  double remaining_seconds = 0;
  std::int64_t skipped_steps = 0;        // of all steps so far, before a resume and of a source too
  std::int64_t communication_calls = 0;  // collectives of this rank in the step
  std::int64_t communication_bytes = 0;  // that it sent in them
};

struct EvaluationRecord {
  std::int64_t step = 0;
  double loss = 0;
  std::int64_t tokens = 0;  // scored
  double seconds = 0;
};

// "step 7/600 | loss 2.3456 | ppl 10.44 | lr 1.000e-03 | grad_norm 0.512 | ..."
std::string describe(const StepRecord& record);
std::string describe(const EvaluationRecord& record);
// "1:02:03"
std::string describe_duration(double seconds);

class RunLog {
 public:
  static constexpr std::int64_t kNewRun = -1;

  // Silent where `writes` is false: all ranks but one. Keeps the lines of steps up to
  // `restored_step`; of a new run none.
  RunLog(const std::filesystem::path& run, std::int64_t restored_step, bool writes);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  void step(const StepRecord& record);
  void evaluation(const EvaluationRecord& record);
  // An update that was not made, and why.
  void skipped(std::int64_t step, std::string_view problem);
  // Anything else worth a line: a checkpoint, a signal, a warning.
  void note(std::int64_t step, std::string_view text);

 private:
  struct Output;
  std::unique_ptr<Output> output_;  // null where nothing is written
};

}  // namespace polyhead
