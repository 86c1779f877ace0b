#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/report/svg.h"

namespace tandem::report {

/// A bandwidth, which is a slanted line of a roofline, in 1e9 bytes per second.
struct Bandwidth {
  std::string name = {};
  double gb_per_s = 0;
  std::optional<double> low = {}, high = {};  ///< drawn as a band where both are there
};

/// A peak of arithmetic, which is a level line, in 1e9 operations per second.
struct Peak {
  std::string name = {};
  double gflop_per_s = 0;
};

struct Kernel {
  std::string name = {};
  double flop_per_byte = 0;
  double gflop_per_s = 0;
};

/// What a machine's memories and arithmetic allow, and where kernels lie below that; both axes are logarithmic.
/// Source: Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009.
struct Roofline {
  std::string title = {};  ///< said by screen readers; the caption is the page's
  std::vector<Bandwidth> bandwidths = {};
  std::vector<Peak> peaks = {};
  std::vector<Kernel> kernels = {};
};

/// A picture `width` pixels wide. A kernel whose name finds no room near its mark has it in its tooltip alone. Throws
/// Error(invalid_argument) naming the bandwidth, peak or kernel for values that are no positive numbers, and for bounds
/// that do not enclose their value.
Svg draw(const Roofline& chart, double width);

}  // namespace tandem::report
