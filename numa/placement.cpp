#include "numa/placement.h"

#include <cassert>

namespace tandem::numa {

int PlacementPolicy::node_of(std::int64_t layer, std::int64_t sequence, std::int64_t kv_head) const noexcept {
  assert(layer >= 0 && sequence >= 0 && kv_head >= 0 && kv_head < num_kv_heads);
  const std::int64_t block = kv_head * num_nodes / num_kv_heads;
  if (num_kv_heads % num_nodes == 0) return static_cast<int>(block);
  // Reduced one by one: sequence numbers may use all 63 bits.
  return static_cast<int>((block + layer % num_nodes + sequence % num_nodes) % num_nodes);
}

}  // namespace tandem::numa
