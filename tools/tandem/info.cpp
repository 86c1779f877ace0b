// tandem info: what this build is and what it sees of the machine.
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/probes/processor.h"
#include "tools/tandem/command.h"
#include "tools/tandem/options.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

Json build_json() {
  return {{"type", TANDEM_BUILD_TYPE},
          {"compiler", TANDEM_COMPILER},
          {"flags", TANDEM_CXX_FLAGS},
          {"sanitize", TANDEM_SANITIZERS}};
}

/// A runtime of the smallest shape: td_describe reports the machine whatever the shape.
td::Runtime smallest_runtime(const CommonOptions& options) {
  auto config = td::make<td_config>();
  config.num_layers = config.num_q_heads = config.num_kv_heads = 1;
  config.head_dim_k = 64;
  config.local_tokens = 1;
  apply(options, config);
  return make_runtime(config);
}

std::string text_of(const std::string& name, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (name.ends_with("bytes") && value.is_number()) return human_bytes(value.get<double>());
  return value.dump();
}

/// `value` as "name: value" lines, without those that are empty; objects and lists of objects are indented below their
/// name.
void add_lines(const std::string& name, const Json& value, std::size_t indent, std::string& text) {
  const std::string margin(indent, ' ');
  const bool nested = value.is_object() || (value.is_array() && !value.empty() && value.front().is_structured());
  if (!nested) {
    const std::string shown = text_of(name, value);
    if (!shown.empty()) text += fmt::format("{}{:<{}}  {}\n", margin, name, 26 - indent, shown);
    return;
  }
  text += fmt::format("{}{}\n", margin, name);
  for (const auto& [key, entry] : value.items()) add_lines(key, entry, indent + 2, text);
}

void info(const CommonOptions& options) {
  JsonOutput json(options.json);
  Json described = describe(smallest_runtime(options));
  for (const char* other : {"config", "split"}) described.erase(other);  // of the runtime that had to be made
  Json report = {{"version", td_version()}, {"build", build_json()}, {"cpu", probes::processor_title()}};
  report.update(described);
  std::string text;
  for (const auto& [name, value] : report.items()) add_lines(name, value, 0, text);
  print(json, text);
  json.write(report);
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  const auto options = std::make_shared<CommonOptions>();
  CLI::App* command = app.add_subcommand("info", "Show the machine, its instruction sets and devices, and this build");
  add_common(*command, *options, kThreads | kIsa | kJson | kMemory);
  command->footer("Example:\n  tandem info --json -");
  command->callback([options, &action] { action = [options] { info(*options); }; });
}

}  // namespace tandem::cli
