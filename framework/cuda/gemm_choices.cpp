#include "framework/cuda/gemm_choices.h"

#include <charconv>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

#include "framework/cuda/gemm_timing.h"
#include "framework/device_system.h"
#include "framework/error.h"
#include "framework/files/json.h"

namespace polyhead::cuda {
namespace {

using nlohmann::json;

// Below, a product takes about the time of its launch whatever the algorithm.
constexpr double kMeasuredFlops = 50e6;

constexpr std::size_t kWords = std::size(cublasLtMatmulAlgo_t{}.data);
constexpr std::size_t kDigits = 16;  // of a word

std::string to_hex(const cublasLtMatmulAlgo_t& algorithm) {
  std::string text;
  for (const std::uint64_t word : algorithm.data) text += fmt::format("{:016x}", word);
  return text;
}

cublasLtMatmulAlgo_t from_hex(const json& field, const std::string& source) {
  const std::string text = field.is_string() ? field.get<std::string>() : "";
  cublasLtMatmulAlgo_t algorithm{};
  bool valid = text.size() == kWords * kDigits;
  for (std::size_t i = 0; valid && i < kWords; ++i) {
    const char* const begin = text.data() + i * kDigits;
    valid = std::from_chars(begin, begin + kDigits, algorithm.data[i], 16).ptr == begin + kDigits;
  }
  require(valid, "{}: an algorithm is not {} hexadecimal digits", source, kWords * kDigits);
  return algorithm;
}

constexpr const char* kSystem = "system";  // what choices depend on
constexpr const char* kAlgorithms = "algorithms";

class Registry {
 public:
  static Registry& instance() {
    static Registry* const registry = new Registry;
    return *registry;
  }

  void set_measuring(bool on) {
    const std::lock_guard lock(mutex_);
    measuring_ = on;
  }

  void multiply(const GemmProblem& problem, const void* a, const void* b, const void* addend,
                void* c) {
    const std::lock_guard lock(mutex_);
    const auto [place, is_new] = plans_.try_emplace(problem, problem);
    GemmPlan& plan = place->second;
    if (is_new) {
      try {
        choose(plan, a, b);
      } catch (...) {
        plans_.erase(place);
        throw;
      }
    }
    plan.run(a, b, addend, c);
  }

  json algorithms() {
    const std::lock_guard lock(mutex_);
    json result = json::object();
    for (const auto& [problem, algorithm] : choices_) result[problem] = to_hex(algorithm);
    return result;
  }

  void adopt(const json& algorithms, const std::string& source) {
    std::map<std::string, cublasLtMatmulAlgo_t> adopted;
    for (const auto& [problem, hex] : algorithms.items()) {
      adopted.emplace(problem, from_hex(hex, source));
    }
    const std::lock_guard lock(mutex_);
    for (const auto& [problem, algorithm] : adopted) choices_[problem] = algorithm;
    plans_.clear();
  }

 private:
  void choose(GemmPlan& plan, const void* a, const void* b) {
    const GemmProblem& problem = plan.problem();
    const std::string name = problem.to_string();
    const auto given = choices_.find(name);
    if (given == choices_.end() || !plan.accepts(given->second)) {
      const double flops = 2.0 * static_cast<double>(problem.rows) *
                           static_cast<double>(problem.columns) *
                           static_cast<double>(problem.depth);
      choices_[name] = measuring_ && flops >= kMeasuredFlops ? fastest_algorithm(plan, a, b)
                                                             : plan.candidates().front();
    }
    plan.set_algorithm(choices_[name]);
  }

  std::mutex mutex_;
  bool measuring_ = true;
  std::map<std::string, cublasLtMatmulAlgo_t> choices_;  // by GemmProblem::to_string
  std::unordered_map<GemmProblem, GemmPlan, GemmProblemHash> plans_;
};

}  // namespace

void GemmChoices::set_measuring(bool on) {
  Registry::instance().set_measuring(on);
}

std::string GemmChoices::to_json() {
  const json document{{kSystem, DeviceSystem<Device::kCuda>::describe()},
                      {kAlgorithms, Registry::instance().algorithms()}};
  return document.dump(2) + "\n";
}

bool GemmChoices::adopt(const std::string& text, const std::string& source) {
  const json document = parse_json(text, source);
  require(document.is_object() && document.contains(kSystem) && document.contains(kAlgorithms) &&
              document[kAlgorithms].is_object(),
          "{}: expected an object with '{}' and '{}'", source, kSystem, kAlgorithms);
  if (document[kSystem] != DeviceSystem<Device::kCuda>::describe()) return false;
  Registry::instance().adopt(document[kAlgorithms], source);
  return true;
}

void multiply(const GemmProblem& problem, const void* a, const void* b, const void* addend,
              void* c) {
  Registry::instance().multiply(problem, a, b, addend, c);
}

}  // namespace polyhead::cuda
