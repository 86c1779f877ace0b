#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "numa/topology.h"
#include "tools/probes/spread.h"

namespace tandem::probes {

/// One of the library's kernels on rows in memory: head_dim 128, a GQA group of 4, one query token.
struct KernelMeasurement {
  std::string name;          ///< "dense bf16", "gather bf16", "window kivi2 g32", ..
  double bytes_per_row = 0;  ///< K and V of a token as stored
  double flop_per_row = 0;   ///< of scores and of weighted values: 2 for each element, vector and row
  Spread gb_per_s = {};      ///< of all cores
};

/// Measures them on the first node, all of its usable cores at work on heads of their own, everything once a round and
/// the caches emptied before each.
class KernelProbes {
 public:
  /// `rows` of each head; the memory is that of one head per core and kind. Throws Error(out_of_memory).
  KernelProbes(const numa::Topology& topology, const cpu::Kernels& kernels, std::int64_t rows);
  ~KernelProbes();
  KernelProbes(const KernelProbes&) = delete;
  KernelProbes& operator=(const KernelProbes&) = delete;

  /// Measurements of a round.
  [[nodiscard]] int size() const noexcept;
  /// Calls `tick` after each.
  void round(const std::function<void()>& tick);
  [[nodiscard]] std::vector<KernelMeasurement> measurements() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tandem::probes
