#pragma once

#include <string>
#include <vector>

#include "tools/plan/comparison.h"

namespace tandem::cli {

/// A figure that predictions rest on.
struct PlanFigure {
  std::string name, unit;
  plan::Figure figure;
};

/// What one machine is predicted to do with a model.
struct PlanReport {
  std::string model, machine;
  std::vector<plan::Prediction> predictions;
  std::vector<std::string> misfits;
  std::vector<PlanFigure> figures;
};

/// As one page of HTML: speeds with their ranges by context and batch, what bounds them, a step as lanes over time, and
/// every figure with its source.
std::string html_of(const PlanReport& report);

/// One context and batch on all machines.
struct PlanRound {
  std::int64_t context = 0;
  int batch = 0;  ///< 0: as many sequences as fit, on each machine for itself
  std::vector<plan::Contender> contenders;
};

/// Machine against machine, as a page: verdicts, speeds side by side and over the context, and the table.
std::string html_of(const std::string& model, const std::vector<PlanRound>& rounds, const std::string& note);

}  // namespace tandem::cli
