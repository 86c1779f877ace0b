#pragma once

#include <cstdint>
#include <string>

#include "tandem/tandem.hpp"

namespace tandem::cli {

/// True of a step that attended to every row of the host tier that it saw, and saw some.
bool is_dense(const td_stats& stats) noexcept;

/// Says that `dense` of `steps` steps were; empty when none was, or when `selector` takes every row anyway. `tried`:
/// the selector ran all the same, or had to, so that it was not the profile that decided.
std::string dense_text(std::int64_t dense, std::int64_t steps, const td_selector& selector, bool tried);

}  // namespace tandem::cli
