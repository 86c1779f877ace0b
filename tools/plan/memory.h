#pragma once

#include <cstdint>
#include <string>

#include "tools/plan/catalog.h"
#include "tools/plan/step_settings.h"
#include "tools/plan/system.h"

namespace tandem::plan {

/// Bytes that a configuration takes, of all GPUs together and of the host.
struct MemoryNeed {
  double weights = 0;      ///< device
  double device_kv = 0;    ///< all tokens, or windows and dense layers; of swap, two layers being copied or read
  double activations = 0;  ///< device
  double reserve = 0;      ///< device: driver, libraries, workspaces
  double host_rows = 0;
  double host_index = 0;  ///< codes or tables

  [[nodiscard]] double device() const noexcept { return weights + device_kv + activations + reserve; }
  [[nodiscard]] double host() const noexcept { return host_rows + host_index; }
};

/// Of a token: K and V of one layer on the device, in 16 bits.
double device_token_bytes(const ModelShape& model) noexcept;
/// Of a token and KV head on the host: K and V in `settings.host_dtype`, and what an index adds. Sketches take their
/// code and a factor of two bytes; MagicPIG's released tables take an id of four bytes in each table, and the bounds of
/// all buckets once per sequence.
double host_row_bytes(const ModelShape& model, const StepSettings& settings) noexcept;
double index_bytes(const ModelShape& model, const StepSettings& settings) noexcept;

MemoryNeed memory_of(const ModelShape& model, const StepSettings& settings, int num_gpus) noexcept;

/// Bytes of the system's device and host. Without a GPU both share the host's, and the device counts as having none.
double device_bytes(const System& system);
double host_bytes(const System& system);

bool fits(const System& system, const ModelShape& model, const StepSettings& settings);
/// The most sequences that fit, up to `most`; 0: none does.
int max_batch(const System& system, const ModelShape& model, StepSettings settings, int most = 65536);

/// Empty when it fits; otherwise by how much it does not and what would: fewer sequences, a shorter context, int8
/// weights or rows, a method that keeps less on the device, a larger card of the catalog.
std::string why_it_does_not_fit(const Catalog& catalog, const System& system, const ModelShape& model,
                                const StepSettings& settings);

}  // namespace tandem::plan
