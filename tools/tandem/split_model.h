#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/formats/trace.h"
#include "tools/tandem/cli_fwd.h"
#include "tools/tandem/split_case.h"

namespace tandem::cli {

/// For what model ways to split attention are compared, as the command line says it.
struct SplitModelOptions {
  SplitShape shape{.num_layers = 32};
  std::string model;  ///< for Catalog::model(); empty: `shape` counts
  std::string contexts = "32K";
  std::string trace;        ///< folder; empty: made-up heads
  std::int32_t layer = -1;  ///< of the trace; negative: the middle one
};

/// --model, or the sizes of its attention one by one, --trace and --context.
void add_split_model(CLI::App& command, SplitModelOptions& options);

/// The same, read.
struct SplitModel {
  std::string name;  ///< empty: a shape without one
  SplitShape shape;
  std::vector<std::int64_t> contexts;
  std::shared_ptr<const tools::Trace> trace;  ///< of one layer, or none
};

/// Throws UsageError, and what reading a config.json and a trace throws.
SplitModel split_model_of(const CLI::App& command, const SplitModelOptions& options);

}  // namespace tandem::cli
