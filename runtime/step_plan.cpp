#include "runtime/step_plan.h"

#include <algorithm>

#include "runtime/base/error.h"

namespace tandem {
namespace {

// Query vectors that read a block of rows together: enough that decoding a row costs little, few enough that their
// scores and sums stay in the second-level cache.
constexpr int kVectorsPerTask = 64;

}  // namespace

void plan_tasks(const AttendRequest& request, const SequenceLock& sequences, const AttentionShape& shape,
                std::vector<Task>& tasks) {
  tasks.clear();
  const int queries_per_task = std::max(1, kVectorsPerTask / shape.group_size());
  std::int64_t first_row = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    LayerState& layer = sequences[s].layer(request.layer);
    const std::int64_t queries = request.num_queries[s];
    TANDEM_CHECK(queries <= layer.length(), invalid_argument, "num_queries[", s, "] is ", queries, "; sequence ",
                 sequences[s].id(), " holds ", layer.length(), " tokens in layer ", request.layer,
                 ", and queries belong to its last tokens");
    const std::int64_t first_position = layer.length() - queries;
    for (std::int64_t begin = 0; begin < queries; begin += queries_per_task) {
      const auto count = static_cast<int>(std::min<std::int64_t>(queries_per_task, queries - begin));
      for (std::int32_t head = 0; head < shape.num_kv_heads; ++head) {
        tasks.push_back({&layer, &sequences[s].selector(), head, first_row + begin, first_position + begin, count});
      }
    }
    first_row += queries;
  }
}

}  // namespace tandem
