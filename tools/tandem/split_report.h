#pragma once

#include <string>
#include <vector>

#include "tools/tandem/output.h"
#include "tools/tandem/split_choice.h"

namespace tandem::cli {

/// Everything that a sweep of splits found.
struct SplitReport {
  std::string model;             ///< its name, or empty
  std::string trace;             ///< the folder that the results were measured over, or empty
  std::int32_t trace_layer = 0;  ///< which layer of it
  SplitShape shape;
  std::vector<std::int32_t> dense_layers = {0};  ///< numbers of them that were asked about
  SplitTarget target;
  std::vector<SplitSample> fit;      ///< what predictions were made from
  std::vector<SplitResult> results;  ///< context by context, batch by batch
  Json machine;                      ///< what td_describe says
};

/// The choice of each context and batch, in the order of the results; those of which nothing was measured have none.
struct SplitSection {
  std::int64_t tokens = 0;
  int batch = 1;
  std::vector<const SplitResult*> results;
  std::vector<SplitStep> steps;  ///< of those that were measured
  SplitChoice choice;
};
std::vector<SplitSection> sections_of(const SplitReport& report);

/// "layer 2 of golden_trace", "made-up heads": what was measured over.
std::string data_of(const SplitReport& report);
/// Why some results have no prediction; empty where all have one.
std::string unpredicted_note(const SplitReport& report);
std::string text_of(const SplitReport& report);
Json json_of(const SplitReport& report);

}  // namespace tandem::cli
