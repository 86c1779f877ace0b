#include "runtime/attention_mass.h"

namespace tandem {
namespace {

/// Slots of kept tokens, then the rows of the ring.
struct MassShape {
  explicit MassShape(const gpu::WindowCache& window)
      : slots(window.kept()->rule().slots), recents(window.length() - window.sink_tokens() - window.left()) {}
  std::int64_t slots, recents;
};

bool scores_attention(const Task& task) {
  const gpu::KeptTokens* kept = task.head_state().window.kept();
  return kept != nullptr && kept->rule().scores == gpu::ScoreSource::attention;
}

}  // namespace

void plan_mass(const AttendRequest& request, StepBuffers& buffers) {
  std::int64_t floats = 0;
  for (Task& task : buffers.tasks) {
    if (!request.use_window || !scores_attention(task)) continue;
    const MassShape shape(task.head_state().window);
    task.mass = floats;
    floats += shape.slots + std::max<std::int64_t>(0, shape.recents);
  }
  buffers.mass.assign(static_cast<std::size_t>(floats), 0.f);
}

void accumulate_mass(StepBuffers& buffers) {
  for (const Task& task : buffers.tasks) {
    if (task.mass < 0) continue;
    gpu::WindowCache& window = task.head_state().window;
    const MassShape shape(window);
    const float* mass = buffers.mass.data() + task.mass;
    window.accumulate({{mass, static_cast<std::size_t>(shape.slots)},
                       {mass + shape.slots, static_cast<std::size_t>(std::max<std::int64_t>(0, shape.recents))}});
  }
}

}  // namespace tandem
