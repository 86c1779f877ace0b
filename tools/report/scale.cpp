#include "tools/report/scale.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/base/error.h"
#include "tools/report/numbers.h"

namespace tandem::report {
namespace {

constexpr double kSlack = 1e-9;  // of a step: what rounding may add to a value

/// The smallest 1, 2 or 5 times a power of ten (a power of two) that is not below `step` > 0.
double round_up(double step, Numbers numbers) {
  if (numbers == Numbers::binary) return std::exp2(std::ceil(std::log2(step) - kSlack));
  const double power = std::pow(10.0, std::floor(std::log10(step) + kSlack));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= step * (1 - kSlack)) return factor * power;
  return 10 * power;
}

double round_down(double step, Numbers numbers) {
  if (numbers == Numbers::binary) return std::exp2(std::floor(std::log2(step) + kSlack));
  const double power = std::pow(10.0, std::floor(std::log10(step) + kSlack));
  for (const double factor : {5.0, 2.0})
    if (factor * power <= step * (1 + kSlack)) return factor * power;
  return power;
}

double step_of(double low, double high, int most, Numbers numbers) {
  // `most` ticks enclose most - 1 steps; one that falls on neither end makes no tick more than most - 1.
  const double step = round_up((high - low) / most, numbers);
  const double count = std::floor(high / step + kSlack) - std::ceil(low / step - kSlack) + 1;
  return count <= most ? step : round_up(step * 1.5, numbers);
}

std::vector<Tick> linear_ticks(double low, double high, int most, Numbers numbers) {
  const double step = step_of(low, high, most, numbers);
  std::vector<Tick> ticks;
  const double first = std::ceil(low / step - kSlack);
  for (double k = first; k <= high / step + kSlack; ++k)
    ticks.push_back({k * step, tick_text(k * step, step, numbers)});
  return ticks;
}

/// Values at every `stride`-th power of `base` times each of the factors.
std::vector<double> powers(double low, double high, double base, int stride, const std::vector<double>& factors) {
  std::vector<double> values;
  const double exponent_of_low = std::log2(low) / std::log2(base);
  // Where some are left out, the first one inside stays.
  const double first = stride == 1 ? std::floor(exponent_of_low) : std::ceil(exponent_of_low - kSlack);
  for (double exponent = first; std::pow(base, exponent) <= high * (1 + kSlack); exponent += stride)
    for (const double factor : factors) {
      const double value = factor * std::pow(base, exponent);
      if (value >= low * (1 - kSlack) && value <= high * (1 + kSlack)) values.push_back(value);
    }
  return values;
}

std::vector<double> log_values(double low, double high, std::size_t most, Numbers numbers) {
  const bool binary = numbers == Numbers::binary;
  if (!binary) {
    for (const auto& factors : {std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 5}, {1, 3}})
      if (auto values = powers(low, high, 10, 1, factors); values.size() <= most && values.size() >= 2) return values;
  }
  for (int stride = 1;; stride = stride < 2 ? 2 : stride + 1)
    if (auto values = powers(low, high, binary ? 2 : 10, stride, {1}); values.size() <= most) return values;
}

}  // namespace

double checked(double value, const Axis& axis, std::string_view owner, std::string_view field) {
  TANDEM_CHECK(std::abs(value) <= kLargestValue, invalid_argument, owner, ": ", field, " is ", value,
               "; it must be a number of at most 1e300 in magnitude");
  TANDEM_CHECK(axis.kind == ScaleKind::linear || value >= kSmallestLog, invalid_argument, owner, ": ", field, " is ",
               value, "; on a logarithmic axis it must be at least 1e-300");
  return value;
}

Scale::Scale(const Axis& axis, double low, double high, double from, double to, bool tight)
    : kind_(axis.kind), numbers_(axis.numbers), low_(low), high_(high), from_(from), to_(to) {
  if (kind_ == ScaleKind::log) {
    if (high_ / low_ < 1.0001) {
      low_ /= 2;
      high_ *= 2;
    }
    if (!tight) {
      low_ = round_down(low_, numbers_);
      high_ = round_up(high_, numbers_);
    }
    return;
  }
  if (axis.from_zero) {
    low_ = std::min(low_, 0.0);
    high_ = std::max(high_, 0.0);
  }
  const double magnitude = std::max(std::abs(low_), std::abs(high_));
  if (high_ - low_ <= std::max(magnitude * 1e-9, 1e-290)) {  // one value, or as good as one
    const double room = magnitude < 1e-290 ? 1 : magnitude / 2;
    low_ -= low_ == 0 ? 0 : room;
    high_ += room;
  }
  if (!tight) {
    const double step = step_of(low_, high_, 6, numbers_);
    low_ = std::floor(low_ / step + kSlack) * step;
    high_ = std::ceil(high_ / step - kSlack) * step;
  }
}

double Scale::operator()(double value) const noexcept {
  const double inside = std::clamp(value, low_, high_);
  const double share = kind_ == ScaleKind::log
                           ? (std::log10(inside) - std::log10(low_)) / (std::log10(high_) - std::log10(low_))
                           : (inside - low_) / (high_ - low_);
  return from_ + share * (to_ - from_);
}

std::vector<Tick> Scale::ticks(int most) const {
  most = std::max(most, 2);
  if (kind_ == ScaleKind::linear) return linear_ticks(low_, high_, most, numbers_);
  std::vector<Tick> ticks;
  for (const double value : log_values(low_, high_, static_cast<std::size_t>(most), numbers_))
    ticks.push_back({value, tick_text(value, value, numbers_)});
  // Within a small part of a decade, powers say too little.
  return ticks.size() < 2 ? linear_ticks(low_, high_, most, numbers_) : ticks;
}

}  // namespace tandem::report
