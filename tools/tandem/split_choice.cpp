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

/// Which of two steps is to be preferred, given the times that decide.
class Order {
 public:
  Order(const SplitTarget& target, bool predicted) : target_(target), predicted_(predicted) {}

  [[nodiscard]] double us(const SplitStep& step) const { return predicted_ ? step.predicted()->value : step.us(); }
  [[nodiscard]] bool reaches(const SplitStep& step) const {
    if (target_.tokens_per_second > 0) return step.split->at.batch * 1e6 / us(step) >= target_.tokens_per_second;
    return step.error() <= target_.error;
  }
  /// Times first where the fastest is wanted, or where none reaches a number of tokens per second; errors first
  /// otherwise. Times within kNoise of the fastest count as equal.
  [[nodiscard]] SplitStep best_of(std::vector<SplitStep> steps) const {
    const bool any = std::any_of(steps.begin(), steps.end(), [this](const auto& each) { return reaches(each); });
    if (any) std::erase_if(steps, [this](const auto& each) { return !reaches(each); });
    const auto faster = [this](const auto& a, const auto& b) { return us(a) < us(b); };
    const bool by_time = (target_.tokens_per_second > 0) != any;
    if (by_time) {
      const double most = (1 + kNoise) * us(*std::min_element(steps.begin(), steps.end(), faster));
      std::erase_if(steps, [this, most](const auto& each) { return us(each) > most; });
    }
    return *std::min_element(steps.begin(), steps.end(), [&](const auto& a, const auto& b) {
      return a.error() != b.error() ? a.error() < b.error() : faster(a, b);
    });
  }

 private:
  const SplitTarget& target_;
  bool predicted_;
};

std::string target_text(const SplitTarget& target) {
  return target.tokens_per_second > 0 ? fmt::format("{} tokens/s of attention", short_number(target.tokens_per_second))
                                      : fmt::format("an error of at most {}", short_number(target.error));
}

std::string layers_text(std::int32_t layers) { return fmt::format("{} {}", layers, layers == 1 ? "layer" : "layers"); }

/// "312 us a layer, 9.99 ms for 32 layers, 100 tokens/s of attention alone; error 0.0709 (p95 0.18); most of it is .."
std::string figures_text(const SplitStep& step) {
  const SplitSample& sample = *step.split->measured;
  const bool mixed = step.dense_layers > 0;
  std::string text = short_number(sample.us) + " us a layer";
  if (mixed)
    text += fmt::format(" and {} us a dense one, of which there are {}", short_number(step.dense->measured->us),
                        step.dense_layers);
  text += fmt::format(", {} ms for {}, {} tokens/s of attention alone; error {}", short_number(step.us() / 1000),
                      layers_text(step.num_layers), short_number(step.tokens_per_second()), short_number(step.error()));
  text += mixed ? fmt::format(", that of a layer that is not dense {}", short_number(sample.error))
                : fmt::format(" (p95 {})", short_number(sample.error_p95));
  return text + fmt::format("; most of {} is {}", mixed ? "the latter's time" : "it", bottleneck_of(sample));
}

std::string reason_of(const SplitStep& best, bool reaches, const std::vector<SplitStep>& steps,
                      const SplitTarget& target) {
  std::string text = fmt::format("{} of {} splits with {}: {}",
                                 !reaches                       ? "no split reaches the target; the nearest"
                                 : target.tokens_per_second > 0 ? "the most exact"
                                                                : "the fastest",
                                 steps.size(), target_text(target), figures_text(best));
  const SplitStep* dense = nullptr;
  for (const SplitStep& step : steps)
    if (reads_all(step.split->at.split) && (dense == nullptr || step.us() < dense->us())) dense = &step;
  if (dense != nullptr && *dense != best)
    text += fmt::format("; attention to every row takes {} us, {} times as long",
                        short_number(dense->split->measured->us), short_number(dense->us() / best.us()));
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

SplitChoice choose(const std::vector<SplitStep>& steps, const SplitTarget& target) {
  const Order measured(target, false);
  SplitChoice choice;
  choice.best = measured.best_of(steps);
  std::vector<SplitStep> predicted = steps;
  std::erase_if(predicted, [](const SplitStep& step) { return !step.predicted(); });
  if (!predicted.empty()) choice.foretold = Order(target, true).best_of(predicted);
  choice.reaches_target = measured.reaches(*choice.best);
  choice.reason = reason_of(*choice.best, choice.reaches_target, steps, target);
  return choice;
}

SplitErrors errors_of(const std::vector<SplitResult>& results) {
  std::vector<double> off;
  for (const SplitResult& result : results)
    if (result.measured && result.predicted && !result.fitted)
      off.push_back(std::abs(result.predicted->value / result.measured->us - 1));
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
