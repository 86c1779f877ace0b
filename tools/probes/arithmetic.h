#pragma once

#include "tools/probes/team.h"

namespace tandem::probes {

/// 1e9 fp32 operations per second of a team that does nothing but independent fused multiply-adds in the widest
/// registers that the processor has; a multiply-add counts as two. Without fused ones: a multiplication and an
/// addition.
double fma_gflop_per_s(Team& team);

}  // namespace tandem::probes
