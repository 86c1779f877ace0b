#include "runtime/base/trace.h"

namespace tandem {

const char* to_string(Stage stage) noexcept {
  constexpr const char* kNames[kNumStages] = {"append", "evict", "index", "window", "select", "attend", "merge"};
  return kNames[static_cast<std::size_t>(stage)];
}

StageTrace& StageTrace::operator+=(const StageTrace& other) noexcept {
  for (std::size_t i = 0; i < stages.size(); ++i) {
    stages[i].us += other.stages[i].us;
    stages[i].bytes += other.stages[i].bytes;
  }
  return *this;
}

std::int64_t StageTrace::bytes() const noexcept {
  std::int64_t sum = 0;
  for (const Entry& entry : stages) sum += entry.bytes;
  return sum;
}

}  // namespace tandem
