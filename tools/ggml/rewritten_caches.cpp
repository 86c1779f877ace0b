#include "tools/ggml/rewritten_caches.h"

#include <atomic>

#include "ggml.h"
#include "tools/ggml/cache_tensor.h"

namespace tandem::ggml {
namespace {

std::atomic<std::uint64_t> rewrites{0};

}  // namespace

void note_declined(const ggml_tensor& node) noexcept {
  // Only a node whose result is a view of the cache writes it; those that merely look at it never come here.
  if (node.view_src != nullptr && cache_kind(*root_of(&node)) != CacheKind::none)
    rewrites.fetch_add(1, std::memory_order_relaxed);
}

std::uint64_t cache_rewrites() noexcept { return rewrites.load(std::memory_order_relaxed); }

}  // namespace tandem::ggml
