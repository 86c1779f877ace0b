#include "tools/report/numbers.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

namespace tandem::report {
namespace {

constexpr int kMostDecimals = 12;

std::string superscript(int number) {
  static constexpr std::array kDigits = {"\u2070", "\u00b9", "\u00b2", "\u00b3", "\u2074",
                                         "\u2075", "\u2076", "\u2077", "\u2078", "\u2079"};
  std::string text = number < 0 ? "\u207b" : "";
  for (const char digit : fmt::format("{}", std::abs(number))) text += kDigits[static_cast<std::size_t>(digit - '0')];
  return text;
}

std::string without_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string grouped(std::string text) {
  const auto end = std::min(text.find('.'), text.size());
  const std::size_t first = text.front() == '-' ? 1 : 0;
  for (std::size_t at = end; at > first + 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

/// "2x10^7" with a real multiplication sign and superscripts.
std::string scientific(double value, int decimals) {
  int exponent = static_cast<int>(std::floor(std::log10(std::abs(value))));
  std::string mantissa = without_zeros(fmt::format("{:.{}f}", value / std::pow(10.0, exponent), decimals));
  if (mantissa == "10" || mantissa == "-10") {  // rounded up
    mantissa.pop_back();
    ++exponent;
  }
  const std::string power = "10" + superscript(exponent);
  return mantissa == "1" ? power : mantissa + "\u00d7" + power;
}

struct Prefix {
  double unit;
  const char* name;
};

Prefix prefix_of(double magnitude, Numbers numbers) {
  static constexpr std::array<Prefix, 10> kSi = {{{1e18, "E"},
                                                  {1e15, "P"},
                                                  {1e12, "T"},
                                                  {1e9, "G"},
                                                  {1e6, "M"},
                                                  {1e3, "k"},
                                                  {1, ""},
                                                  {1e-3, "m"},
                                                  {1e-6, "\u00b5"},
                                                  {1e-9, "n"}}};
  static constexpr std::array<Prefix, 7> kBinary = {
      {{0x1p60, "E"}, {0x1p50, "P"}, {0x1p40, "T"}, {0x1p30, "G"}, {0x1p20, "M"}, {0x1p10, "K"}, {1, ""}}};
  const auto first_below = [&](const auto& prefixes) {
    for (const Prefix& prefix : prefixes)
      if (magnitude >= prefix.unit * (1 - 1e-9)) return prefix;
    return prefixes.back();
  };
  return numbers == Numbers::si ? first_below(kSi) : first_below(kBinary);
}

bool beyond_plain(double magnitude) { return magnitude >= 1e7 || magnitude < 1e-4; }

int exponent_of(double value) { return static_cast<int>(std::floor(std::log10(value) + 1e-9)); }

}  // namespace

std::string tick_text(double value, double step, Numbers numbers) {
  if (std::abs(value) < step / 2) return "0";
  const int magnitude = exponent_of(std::abs(value));
  const Prefix prefix = numbers == Numbers::plain ? Prefix{1, ""} : prefix_of(std::abs(value), numbers);
  const double scaled = value / prefix.unit;
  const int decimals = std::clamp(-exponent_of(step / prefix.unit), 0, kMostDecimals);
  // Of plain numbers the step decides, so that all ticks of an axis are written alike.
  const bool out_of_range = numbers == Numbers::plain ? step < 1e-4 || std::abs(value) >= 1e7
                                                      : std::abs(scaled) >= 1e7 || std::abs(scaled) < 1e-4;
  if (out_of_range) return scientific(value, std::clamp(magnitude - exponent_of(step), 0, kMostDecimals));
  const std::string text = fmt::format("{:.{}f}", scaled, decimals);
  return grouped(numbers == Numbers::plain ? text : without_zeros(text)) + prefix.name;
}

std::string number_text(double value, Numbers numbers) {
  if (value == 0) return "0";
  const Prefix prefix = numbers == Numbers::plain ? Prefix{1, ""} : prefix_of(std::abs(value), numbers);
  const double scaled = std::abs(value) / prefix.unit;
  if (beyond_plain(scaled)) return scientific(value, 2);
  // Rounded first: 99.96 has no decimal.
  const double power = std::pow(10.0, 2 - exponent_of(scaled));
  const int decimals = std::clamp(2 - exponent_of(std::round(scaled * power) / power), 0, kMostDecimals);
  const std::string text = fmt::format("{:.{}f}", value / prefix.unit, decimals);
  return grouped(numbers == Numbers::plain ? text : without_zeros(text)) + prefix.name;
}

}  // namespace tandem::report
