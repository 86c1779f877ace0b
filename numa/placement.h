#pragma once

#include <cstdint>

namespace tandem::numa {

/// Which node holds the K, V and index of one (layer, sequence, kv_head), and whose workers attend over it.
///
/// The KV heads of a layer are spread over the nodes in contiguous blocks, so that every step of every layer uses the
/// memory bandwidth of all nodes. When the heads do not divide evenly, the remainder moves round with layer and
/// sequence, so no node holds more than its share in the long run. A pure function: fixed for the life of a sequence.
struct PlacementPolicy {
  int num_nodes = 1;
  int num_kv_heads = 1;

  [[nodiscard]] int node_of(std::int64_t layer, std::int64_t sequence, std::int64_t kv_head) const noexcept;
};

}  // namespace tandem::numa
