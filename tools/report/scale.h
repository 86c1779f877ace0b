#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tandem::report {

enum class ScaleKind { linear, log };

/// How the numbers of an axis are written.
enum class Numbers {
  plain,   ///< 0.25, 1,500, 2x10^7
  si,      ///< 1.5k, 20M, 3G; below one 5m, 20u (micro), 3n
  binary,  ///< 8K = 8192, 1M; ticks at powers of two
};

/// What a chart says of one of its axes.
struct Axis {
  std::string label = {};  ///< with the unit: "tokens", "ms per step"
  ScaleKind kind = ScaleKind::linear;
  Numbers numbers = Numbers::plain;
  bool from_zero = true;  ///< a linear axis includes zero
};

/// No value of a chart is larger in magnitude than this, so that no difference of two of them overflows.
inline constexpr double kLargestValue = 1e300;
/// No value on a logarithmic axis is smaller.
inline constexpr double kSmallestLog = 1e-300;

/// `value`; throws Error(invalid_argument) naming `owner`, e.g. "series 'lsh'", and `field` when the axis cannot show
/// it: NaN, infinite, beyond kLargestValue, or on a logarithmic axis below kSmallestLog (zero and negative values).
double checked(double value, const Axis& axis, std::string_view owner, std::string_view field);

struct Tick {
  double value = 0;
  std::string text = {};
};

/// From values of one axis to pixels.
class Scale {
 public:
  /// Shows at least [low, high], which are checked() values with low <= high: a single value is given room around it,
  /// and unless `tight` both ends are rounded outwards to ticks. `from` and `to` are the pixels of the ends.
  Scale(const Axis& axis, double low, double high, double from, double to, bool tight = false);

  [[nodiscard]] double low() const noexcept { return low_; }
  [[nodiscard]] double high() const noexcept { return high_; }
  /// Pixels of a value of [low(), high()]; other values end up at the nearer end.
  [[nodiscard]] double operator()(double value) const noexcept;

  /// Up to `most` >= 2 round values of [low(), high()] in rising order, at steps of 1, 2 or 5 times a power of ten
  /// (binary: powers of two). Fewer than two only when the axis has no more.
  [[nodiscard]] std::vector<Tick> ticks(int most) const;

 private:
  ScaleKind kind_;
  Numbers numbers_;
  double low_;
  double high_;
  double from_;
  double to_;
};

/// Three significant digits in the given way: "12.3", "1,234", "1.5k", "8K".
std::string number_text(double value, Numbers numbers = Numbers::plain);

}  // namespace tandem::report
