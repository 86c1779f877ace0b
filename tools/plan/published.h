#pragma once

#include <string>
#include <vector>

#include "tools/plan/step_settings.h"

namespace tandem::plan {

/// What somebody published of one configuration of one machine.
struct PublishedPoint {
  std::string model;        ///< by its name in the library
  StepSettings settings;    ///< with context and batch of the point
  double tokens_per_s = 0;  ///< of all sequences together
  bool fit = false;         ///< rates were fitted on it; otherwise it is a check
  std::string unexplained;  ///< why no model of ours can predict it; empty where one should
};

/// Points of one source and one machine.
struct PublishedSeries {
  std::string name;
  std::string source;
  std::string machine;  ///< as on a command line
  std::vector<PublishedPoint> points;
};

/// {"schema": "tandem-published", "version": 1, "name", "source", "machine", "method", "settings", "unit", "points"};
/// unit is tokens_per_s or s_per_token, and a point is {"model", "context", "batch", "value", "fit", "unexplained"}.
/// Throws Error(invalid_argument) naming the field with `origin` before it, its value and what is allowed.
PublishedSeries published_from(const Json& object, const std::string& origin);

}  // namespace tandem::plan
