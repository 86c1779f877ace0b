#pragma once

#include <cstdint>
#include <vector>

struct ggml_tensor;

namespace tandem::ggml {

/// Whether a SET_ROWS is one that writes whole rows of a KV cache which attention could read later: rows of f32 into a
/// tensor cache_k_* or cache_v_* of f16, bf16, q8_0 or q4_0.
///
/// That the cache is written here is what makes the scheduler of a host with a GPU leave attention to a host backend,
/// too, when the cache is in host memory (-nkvo).
bool is_cache_write(const ggml_tensor& op) noexcept;

/// Writes the rows of a SET_ROWS for which is_cache_write() holds, bit for bit as the CPU backend does, and puts their
/// numbers into `rows` (of the root: stream * cells + cell). Throws std::out_of_range for a row beyond the cache.
void write_cache(const ggml_tensor& op, std::vector<std::int64_t>& rows);

}  // namespace tandem::ggml
