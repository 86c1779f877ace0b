#pragma once

#include <cstdint>

struct ggml_tensor;

namespace tandem::ggml {

/// K-shift rotates the keys of a cache in place, by nodes that the CPU backend computes; so would anything else that
/// writes a cache by other means than is_cache_write(). The scheduler asks every device whether it supports a node
/// before it computes it, which is how the plugin learns of them: what an index holds is compared with the cache before
/// the next attention. Copies and restored states are no nodes; Tandem's probes find those.
///
/// To be called with every node that the device is asked about and does not take. Thread-safe.
void note_declined(const ggml_tensor& node) noexcept;

/// Changes whenever a cache may have been written in that way. Thread-safe.
std::uint64_t cache_rewrites() noexcept;

}  // namespace tandem::ggml
