#pragma once

#include <cstdint>

struct ggml_tensor;

namespace tandem::ggml {

/// The tensor that owns the memory of `tensor`; itself when it is no view.
const ggml_tensor* root_of(const ggml_tensor* tensor) noexcept;

/// Which half of a layer's KV cache a root is: llama.cpp calls its tensors cache_k_l7 and cache_v_l7.
enum class CacheKind { none, k, v };
CacheKind cache_kind(const ggml_tensor& root) noexcept;

/// 7 for cache_k_l7, at most kMaxCacheLayers - 1. Only of a root that cache_kind() knows.
inline constexpr std::int32_t kMaxCacheLayers = 1024;
std::int32_t cache_layer(const ggml_tensor& root) noexcept;

/// All rows of the cache's streams, one after the other: row = stream * cells + cell.
std::int64_t cache_rows(const ggml_tensor& root) noexcept;

}  // namespace tandem::ggml
