#pragma once

#include <string>

#include "tools/plan/estimate.h"
#include "tools/plan/figure.h"
#include "tools/report/page.h"

namespace tandem::cli {

// Figures and predictions as cells of a page's tables.

inline report::Cell text_cell(std::string text, bool number = false) {
  report::Cell cell;
  cell.text = std::move(text);
  cell.number = number;
  return cell;
}

inline report::Badge badge_of(plan::FigureKind kind) noexcept {
  return kind == plan::FigureKind::measured    ? report::Badge::measured
         : kind == plan::FigureKind::published ? report::Badge::published
                                               : report::Badge::assumed;
}

inline report::Cell figure_cell(const plan::Figure& figure) {
  report::Cell cell = report::number_cell(figure.value, figure.low, figure.high, badge_of(figure.kind));
  cell.tooltip = figure.source;
  return cell;
}

inline report::Cell estimate_cell(const plan::Estimate& estimate, report::Badge badge = report::Badge::none) {
  return report::number_cell(estimate.value, estimate.low, estimate.high, badge);
}

}  // namespace tandem::cli
