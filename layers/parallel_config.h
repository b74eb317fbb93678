// The parallel section of a configuration: how the ranks of a run divide one model.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/config/fields.h"
#include "framework/config/rules.h"

namespace polyhead {

struct ParallelConfig {
  std::int64_t tensor_model_parallel_size = 1;  // ranks that share each layer
  bool sequence_parallel = false;               // tokens sharded between the parallel regions
  bool distributed_optimizer = false;           // its state sharded over the data-parallel ranks
  std::int64_t communication_timeout = 600;  // seconds until a silent rank ends the run; 0: never
};

inline std::vector<RuleViolation> parallel_rule_violations(const ParallelConfig& config) {
  Rules rules("parallel");
  rules.require_range(config.tensor_model_parallel_size, "tensor_model_parallel_size", 1, 4096);
  rules.require_range(config.communication_timeout, "communication_timeout", 0, 1 << 24);
  return rules.violations();
}

template <class Visitor>
void visit_fields(Visitor& visitor, ParallelConfig& config) {
  visitor("tensor_model_parallel_size", config.tensor_model_parallel_size,
          {.aliases = {"tensor_parallel_size"}});
  visitor("sequence_parallel", config.sequence_parallel);
  visitor("distributed_optimizer", config.distributed_optimizer,
          {.aliases = {"use_distributed_optimizer"}});
  visitor("communication_timeout", config.communication_timeout);

  visitor.unsupported("pipeline_model_parallel_size", "1", "pipeline parallelism is not built");
  visitor.unsupported("context_parallel_size", "1", "context parallelism is not built");
  visitor.unsupported("expert_model_parallel_size", "1", "expert parallelism is not built");
}

}  // namespace polyhead
