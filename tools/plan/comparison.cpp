#include "tools/plan/comparison.h"

#include <cstdio>

#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

std::string two_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), value < 10 ? "%.2f" : "%.0f", value);
  return text;
}

std::string named(const Contender& contender) {
  const StepSettings& best = contender.methods.front().settings;
  return concat(contender.machine, " (", to_string(best.method), ", ", best.batch,
                best.batch == 1 ? " sequence)" : " sequences)");
}

}  // namespace

Estimate ratio(const Contender& a, const Contender& b) {
  TANDEM_CHECK(!a.methods.empty() && !b.methods.empty(), invalid_argument, "nothing fits on ",
               a.methods.empty() ? a.machine : b.machine, "; allowed: machines that a method fits on");
  const Estimate& x = a.methods.front().tokens_per_s;
  const Estimate& y = b.methods.front().tokens_per_s;
  return {x.value / y.value, x.low / y.high, x.high / y.low};
}

std::string verdict(const Contender& a, const Contender& b) {
  if (a.methods.empty() && b.methods.empty()) return concat("Neither ", a.machine, " nor ", b.machine, " holds it.");
  if (b.methods.empty()) return concat("Only ", named(a), " holds it.");
  if (a.methods.empty()) return concat("Only ", named(b), " holds it.");
  const Estimate of = ratio(a, b);
  const std::string range = concat(two_digits(of.low), " to ", two_digits(of.high));
  const std::string times = concat(two_digits(of.value), " times the tokens per second of ");
  if (of.low > 1)
    return concat(named(a), " gives ", times, named(b), ", and more throughout the range that its assumptions span (",
                  range, ").");
  if (of.high < 1)
    return concat(named(a), " gives ", times, named(b), ", and fewer throughout the range that its assumptions span (",
                  range, ").");
  return concat(named(a), " is expected to give ", times, named(b), ", but the ranges do not tell which is faster (",
                range, ").");
}

}  // namespace tandem::plan
