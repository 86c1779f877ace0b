#pragma once

#include <stdexcept>
#include <string>

#include "tandem/tandem.h"
#include "tools/ggml/log.h"

namespace tandem::ggml {

/// What the environment asks for; the README of this folder describes each variable.
struct Settings {
  bool disabled = false;                         ///< TANDEM_DISABLE
  td_selector_kind selector = TD_SELECT_SKETCH;  ///< TANDEM_SELECTOR
  double budget = 0.02;                          ///< TANDEM_BUDGET: share of the rows that a query sees
  double error = 0;                              ///< TANDEM_ERROR: wanted relative error; 0: spend the budget
  int sinks = 4;                                 ///< TANDEM_SINKS: first rows of a sequence, always attended
  int local = 256;                               ///< TANDEM_LOCAL: latest rows of a sequence, always attended
  int threads = 0;                               ///< TANDEM_THREADS; 0: as many as the engine's
  int probes = 0;                                ///< TANDEM_PROBES, as td_pool_args.probes
  int max_queries = 8;               ///< TANDEM_MAX_QUERIES: of one stream in one op; larger ops stay on the CPU
  bool never_slower = true;          ///< TANDEM_NEVER_SLOWER, as td_config.never_slower
  bool stats = false;                ///< TANDEM_STATS: a table at exit
  LogLevel log = LogLevel::warning;  ///< TANDEM_LOG

  /// Every op is computed exactly, also those whose K and V are no cache.
  [[nodiscard]] bool exact() const noexcept { return selector == TD_SELECT_ALL; }
};

/// A variable has a value that is not allowed: what() names the variable, the value and what is allowed.
struct BadSetting : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Reads the environment; throws BadSetting. Unset and empty variables mean the default.
Settings settings_from_environment();

}  // namespace tandem::ggml
