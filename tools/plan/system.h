#pragma once

#include <optional>
#include <string>

#include "tools/plan/catalog.h"

namespace tandem::plan {

/// What a command line means by a machine: processors, and GPUs that share a model evenly (or none).
struct System {
  std::string name;  ///< "v100-32+2xxeon-8280"
  std::optional<Gpu> gpu;
  int num_gpus = 0;
  Cpu cpu;
  int num_cpus = 1;
  bool cpu_was_named = true;                   ///< false: the default processor stands beside a GPU
  std::optional<lsh::CostProfile> step_costs;  ///< measured on this very machine

  [[nodiscard]] int num_nodes() const noexcept { return num_cpus * cpu.nodes; }
  [[nodiscard]] int num_workers() const noexcept { return num_nodes() * cpu.cores; }
};

/// The processor beside a GPU when none is named: one of the commonest hosts of GPUs.
inline constexpr const char* kDefaultCpu = "xeon-8480+";

/// Reads "GPU", "CPU" or "GPU+CPU", each a name of the catalog or a file, each with a number and an "x" before it where
/// there are several: "v100-32", "2xrtx-4090+epyc-7742", "profile.json". A file may describe both; of its GPUs the
/// first one counts. `default_cpu` is used where there is a GPU and no processor. Throws Error(invalid_argument) naming
/// the part and what is allowed, and what Catalog::machine() throws.
System system_from(const Catalog& catalog, const std::string& text, const std::string& default_cpu = kDefaultCpu);

}  // namespace tandem::plan
