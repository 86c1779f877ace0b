#pragma once

#include <vector>

#include "gpu/window_policy/dmc_decision.h"
#include "runtime/config.h"
#include "runtime/requests.h"

namespace tandem {

/// What the window's policy takes from the engine with new tokens: there where it is needed, absent where it is not,
/// and few enough tokens that attention can see them before they leave the recents. Throws Error(invalid_argument).
void check_policy_input(const AppendRequest& request, const Config& config);

/// Decisions of all tokens, (KV heads, tokens); none without merging. Throws Error(invalid_argument) for values that
/// are not finite.
void decide(const AppendRequest& request, const Config& config, std::vector<gpu::DmcDecision>& decisions);

/// The last neurons of k and q, before RoPE, are decisions and not a part of these.
bool takes_neurons(const Config& config) noexcept;

}  // namespace tandem
