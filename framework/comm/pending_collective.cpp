#include "framework/comm/pending_collective.h"

#include <exception>

namespace polyhead {

PendingCollective::~PendingCollective() {
  try {
    wait();
  } catch (const std::exception&) {
    // Only a failed device refuses a join, and it refuses the next call too, which will say so.
  }
}

void PendingCollective::wait() {
  if (!join_) return;
  std::exchange(join_, nullptr)();
  tensors_ = {};
}

}  // namespace polyhead
