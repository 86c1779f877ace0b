#include "tools/ggml/settings.h"

#include <charconv>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem::ggml {
namespace {

constexpr int kMaxWindowRows = 1 << 24;
constexpr int kMaxThreads = 1024;  // of a runtime
constexpr int kMaxQueries = 1 << 16;

std::string_view value_of(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

[[noreturn]] void refuse(const char* variable, const std::string& allowed) {
  throw BadSetting(std::string(variable) + " is '" + std::string(value_of(variable)) + "'; allowed: " + allowed);
}

/// The number that `text` is as a whole, or false.
template <typename Number>
bool parse(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

void read_whole(const char* variable, int smallest, int largest, int& value) {
  const std::string_view text = value_of(variable);
  if (text.empty()) return;
  int number = 0;
  if (!parse(text, number) || number < smallest || number > largest)
    refuse(variable, "a whole number from " + std::to_string(smallest) + " to " + std::to_string(largest));
  value = number;
}

void read_share(const char* variable, bool one_allowed, double& value) {
  const std::string_view text = value_of(variable);
  if (text.empty()) return;
  double number = 0;
  // The comparisons also refuse NaN.
  if (!parse(text, number) || !(number > 0 && (one_allowed ? number <= 1 : number < 1)))
    refuse(variable, one_allowed ? "a number above 0, up to 1" : "a number above 0 and below 1");
  value = number;
}

template <typename Value>
void read_choice(const char* variable, const std::vector<std::pair<std::string_view, Value>>& choices, Value& value) {
  const std::string_view text = value_of(variable);
  if (text.empty()) return;
  std::string names;
  for (const auto& [name, choice] : choices) {
    if (text == name) {
      value = choice;
      return;
    }
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  refuse(variable, names);
}

void read_switch(const char* variable, bool& value) { read_choice<bool>(variable, {{"0", false}, {"1", true}}, value); }

}  // namespace

Settings settings_from_environment() {
  Settings settings;
  read_switch("TANDEM_DISABLE", settings.disabled);
  read_choice<td_selector_kind>(
      "TANDEM_SELECTOR",
      {{"all", TD_SELECT_ALL}, {"sketch", TD_SELECT_SKETCH}, {"topk", TD_SELECT_TOP_K}, {"lsh", TD_SELECT_LSH}},
      settings.selector);
  read_share("TANDEM_BUDGET", true, settings.budget);
  read_share("TANDEM_ERROR", false, settings.error);
  if (settings.selector == TD_SELECT_SKETCH && settings.error > 0 && !value_of("TANDEM_BUDGET").empty())
    refuse("TANDEM_BUDGET", "none with TANDEM_ERROR, which takes as many rows as it needs");
  read_whole("TANDEM_SINKS", 0, kMaxWindowRows, settings.sinks);
  read_whole("TANDEM_LOCAL", 1, kMaxWindowRows, settings.local);
  read_whole("TANDEM_THREADS", 1, kMaxThreads, settings.threads);
  read_whole("TANDEM_PROBES", -1, kMaxWindowRows, settings.probes);
  read_whole("TANDEM_MAX_QUERIES", 1, kMaxQueries, settings.max_queries);
  // Top-k reads every key, so that it never pays: whoever asks for it wants to see what it selects.
  settings.never_slower = settings.selector != TD_SELECT_TOP_K;
  read_switch("TANDEM_NEVER_SLOWER", settings.never_slower);
  read_switch("TANDEM_STATS", settings.stats);
  read_choice<LogLevel>("TANDEM_LOG",
                        {{"debug", LogLevel::debug},
                         {"info", LogLevel::info},
                         {"warning", LogLevel::warning},
                         {"error", LogLevel::error}},
                        settings.log);
  return settings;
}

}  // namespace tandem::ggml
