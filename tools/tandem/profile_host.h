#pragma once

#include <string>

#include "numa/topology.h"
#include "tools/plan/machine.h"
#include "tools/probes/host_probes.h"
#include "tools/tandem/output.h"

namespace tandem::cli {

/// What the host's probes found, as a processor and as details.
struct HostReport {
  plan::Cpu cpu;
  Json details;
};

/// The processor without a figure: enough to know whether an earlier file is of the same machine.
plan::Cpu identify_cpu(const numa::Topology& topology);

/// Measures every node in rounds, as long as `seconds` last and at least three times. Shows progress. Throws
/// Interrupted, Error(out_of_memory).
HostReport measure_host(const numa::Topology& topology, const probes::HostPlan& plan, int rounds, double seconds);

/// A table of the figures and one of all measurements in `details`, and the notes there.
std::string host_text(const plan::Cpu& cpu, const Json& details);

}  // namespace tandem::cli
