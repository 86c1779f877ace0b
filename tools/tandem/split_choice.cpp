#include "tools/tandem/split_choice.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/tandem/command.h"
#include "tools/tandem/options.h"
#include "tools/tandem/statistics.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

constexpr double kNoise = 0.03;

double tokens_per_second(const SplitCase& at, double us, const SplitShape& shape) {
  return at.batch * 1e6 / (us * shape.num_layers);
}

/// Which of two cases is to be preferred, given the times that decide.
class Order {
 public:
  Order(const SplitTarget& target, const SplitShape& shape, bool predicted)
      : target_(target), shape_(shape), predicted_(predicted) {}

  [[nodiscard]] double us(const SplitResult& result) const {
    return predicted_ ? result.predicted.value : result.measured->us;
  }
  [[nodiscard]] bool reaches(const SplitResult& result) const {
    if (target_.tokens_per_second > 0)
      return tokens_per_second(result.at, us(result), shape_) >= target_.tokens_per_second;
    return result.measured->error <= target_.error;
  }
  /// Times first where the fastest is wanted, or where none reaches a number of tokens per second; errors first
  /// otherwise. Times within kNoise of the fastest count as equal.
  [[nodiscard]] const SplitResult* best_of(std::vector<const SplitResult*> results) const {
    const bool any = std::any_of(results.begin(), results.end(), [this](const auto* each) { return reaches(*each); });
    if (any) std::erase_if(results, [this](const auto* each) { return !reaches(*each); });
    const auto faster = [this](const auto* a, const auto* b) { return us(*a) < us(*b); };
    const bool by_time = (target_.tokens_per_second > 0) != any;
    if (by_time) {
      const double most = (1 + kNoise) * us(**std::min_element(results.begin(), results.end(), faster));
      std::erase_if(results, [this, most](const auto* each) { return us(*each) > most; });
    }
    return *std::min_element(results.begin(), results.end(), [&](const auto* a, const auto* b) {
      return a->measured->error != b->measured->error ? a->measured->error < b->measured->error : faster(a, b);
    });
  }

 private:
  const SplitTarget& target_;
  const SplitShape& shape_;
  bool predicted_;
};

std::string target_text(const SplitTarget& target) {
  return target.tokens_per_second > 0 ? fmt::format("{} tokens/s of attention", short_number(target.tokens_per_second))
                                      : fmt::format("an error of at most {}", short_number(target.error));
}

std::string reason_of(const SplitResult& best, bool reaches, const std::vector<const SplitResult*>& results,
                      const SplitTarget& target, const SplitShape& shape) {
  const SplitSample& sample = *best.measured;
  std::string text = fmt::format(
      "{} of {} splits with {}: {} us a layer, {} ms for {} {}, {} tokens/s of attention alone; error {} (p95 {})",
      !reaches                       ? "no split reaches the target; the nearest"
      : target.tokens_per_second > 0 ? "the most exact"
                                     : "the fastest",
      results.size(), target_text(target), short_number(sample.us), short_number(sample.us * shape.num_layers / 1000),
      shape.num_layers, shape.num_layers == 1 ? "layer" : "layers",
      short_number(tokens_per_second(best.at, sample.us, shape)), short_number(sample.error),
      short_number(sample.error_p95));
  text += fmt::format("; most of it is {}", bottleneck_of(sample));
  const SplitResult* dense = nullptr;
  for (const SplitResult* result : results)
    if (result->at.split.selector == "all" && (dense == nullptr || result->measured->us < dense->measured->us))
      dense = result;
  if (dense != nullptr && dense != &best)
    text += fmt::format("; attention to every row takes {} us, {} times as long", short_number(dense->measured->us),
                        short_number(dense->measured->us / sample.us));
  return text;
}

}  // namespace

SplitTarget parse_target(const std::string& field, const std::string& text) {
  const auto at = text.find('=');
  const std::string name = text.substr(0, at);
  const double value = at == std::string::npos ? -1.0 : parse_or(std::string_view(text).substr(at + 1), -1.0);
  if (name == "eps" && value > 0 && value < 1) return {value, 0};
  if (name == "tok/s" && value > 0 && value <= 1e9) return {1, value};
  throw UsageError(not_allowed(field, text, "eps=E, an error above 0 and below 1, or tok/s=T, a positive number"));
}

SplitChoice choose(const std::vector<const SplitResult*>& results, const SplitTarget& target, const SplitShape& shape) {
  const Order measured(target, shape, false);
  SplitChoice choice;
  choice.best = measured.best_of(results);
  choice.foretold = Order(target, shape, true).best_of(results);
  choice.reaches_target = measured.reaches(*choice.best);
  choice.reason = reason_of(*choice.best, choice.reaches_target, results, target, shape);
  return choice;
}

SplitErrors errors_of(const std::vector<SplitResult>& results) {
  std::vector<double> off;
  for (const SplitResult& result : results)
    if (result.measured && !result.fitted) off.push_back(std::abs(result.predicted.value / result.measured->us - 1));
  return {static_cast<int>(off.size()), quantile(off, 0.5), quantile(off, 0.9), quantile(off, 1)};
}

std::string bottleneck_of(const SplitSample& sample) {
  const std::pair<const char*, double> stages[] = {
      {"appending", sample.append_us},
      {"the window", sample.window_us},
      {"selecting", sample.select_us},
      {sample.gathered_share < 1 ? "gathering" : "reading every host row", sample.attend_us},
      {"merging", sample.merge_us}};
  const auto* most = std::max_element(std::begin(stages), std::end(stages),
                                      [](const auto& a, const auto& b) { return a.second < b.second; });
  return fmt::format("{}, {:.0f} %", most->first, 100 * std::min(1.0, ratio(most->second, sample.us)));
}

}  // namespace tandem::cli
