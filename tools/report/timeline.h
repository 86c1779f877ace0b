#pragma once

#include <string>
#include <vector>

#include "tools/report/svg.h"

namespace tandem::report {

struct Span {
  double start_us = 0;
  double end_us = 0;        ///< >= start_us
  std::string name = {};    ///< written into the span where it fits, and in its tooltip
  std::size_t kind = 0;     ///< number of one of the timeline's kinds, which has a colour
  std::string detail = {};  ///< more for the tooltip
};

struct Lane {
  std::string name = {};
  std::vector<Span> spans = {};  ///< in any order; spans at the same time go below one another
};

/// What happened when: lanes (a GPU, a direction of a link, a worker) below one another over one axis of time.
struct Timeline {
  std::string title = {};               ///< said by screen readers; the caption is the page's
  std::vector<std::string> kinds = {};  ///< of spans, named in rows above the lanes
  std::vector<Lane> lanes = {};
};

/// A picture `width` pixels wide; the unit of its axis (us, ms, s) follows from the longest time. Throws
/// Error(invalid_argument) naming lane and span for times that are no numbers, spans that end before they start, and
/// kinds that the timeline does not have.
Svg draw(const Timeline& timeline, double width);

}  // namespace tandem::report
