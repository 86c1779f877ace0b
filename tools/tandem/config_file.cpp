#include "tools/tandem/config_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/formats/input_file.h"
#include "tools/plan/object_fields.h"
#include "tools/tandem/command.h"

namespace tandem::cli {
namespace {

using plan::ObjectFields;

constexpr std::int64_t kMostThreads = 65536;
/// Options whose place the file takes, by the fields that speak of the same.
constexpr std::array kReplaced = {"--selector", "--lsh",           "--min-collisions", "--lsh-planes",
                                  "--budget",   "--error",         "--sketch-bits",    "--unbiased",
                                  "--sinks",    "--local",         "--window-dtype",   "--host-dtype",
                                  "--profile",  "--always-select", "--window-codec",   "--residual",
                                  "--device",   "--hand-off",      "--window-policy",  "--host-tier"};

/// Of logits, where 0 is td_config's default.
float scale_of(float scale, std::int32_t head_dim) {
  return scale > 0 ? scale : 1 / std::sqrt(static_cast<float>(head_dim));
}

void refuse_beside(const CLI::App& app) {
  for (const char* option : kReplaced) {
    const CLI::Option* const given = app.get_option_no_throw(option);
    if (given != nullptr && given->count() > 0)
      throw UsageError(
          fmt::format("{}: not allowed with --config, which takes its place; allowed: one of them", option));
  }
}

bool flag(ObjectFields& fields, const std::string& name, bool fallback) {
  const Json* const field = fields.find(name);
  if (field == nullptr) return fallback;
  TANDEM_CHECK(field->is_boolean(), invalid_argument, fields.path(), ".", name, " is ", field->dump(),
               "; it must be true or false");
  return field->get<bool>();
}

void read(ObjectFields& fields, const ConfiguredOptions& options, bool threads_given) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;
  options.tiers.sinks = static_cast<std::int32_t>(fields.integer("sink_tokens", 0, kMostTokens, 0));
  options.tiers.local = static_cast<std::int32_t>(fields.integer("local_tokens", 1, kMostTokens));
  options.tiers.window_dtype = fields.text("window_dtype", "");
  options.tiers.host_dtype = fields.text("host_dtype", "");
  options.selector.selector = fields.at("selector").dump();
  options.selector.always_select = !flag(fields, "never_slower", true);
  if (const Json* profile = fields.find("profile")) options.selector.profile = profile->dump();
  if (const Json* codec = fields.find("window_codec")) options.window.codec = codec->dump();
  options.window.residual = static_cast<std::int32_t>(fields.integer("residual_tokens", 0, kMostTokens, 0));
  options.window.device = fields.text("device", "host");
  options.window.hand_off = fields.text("hand_off", "flag");
  options.window.graphs = flag(fields, "graphs", false);
  const auto threads = fields.integer("num_threads", 0, kMostThreads, 0);
  if (!threads_given) options.common.threads = static_cast<std::int32_t>(threads);
}

}  // namespace

void ConfigFile::add_to(CLI::App& app) {
  app.add_option("--config", path_, "file of 'tandem profile split --out': selector, window, tiers and profile in one")
      ->type_name("FILE");
}

void ConfigFile::apply(const CLI::App& app, const ConfiguredOptions& options) {
  if (path_.empty()) return;
  refuse_beside(app);
  config_ = Json::parse(tools::InputFile(path_, "--config").text(), nullptr, false);
  TANDEM_CHECK(!config_->is_discarded(), invalid_argument, "--config: '", path_, "' is not JSON");
  ObjectFields fields(*config_, "--config " + path_);
  const CLI::Option* const threads = app.get_option_no_throw("--threads");
  read(fields, options, threads != nullptr && threads->count() > 0);
  constexpr std::int64_t kMostHeads = 1 << 20;
  for (const char* of_shape : {"num_layers", "num_q_heads", "num_kv_heads", "head_dim_k", "head_dim_v"})
    fields.integer(of_shape, 0, kMostHeads, 0);
  fields.number("scale", 0, std::numeric_limits<float>::max(), 0);
  fields.reject_others();
}

void ConfigFile::check_shape(const td_config& config, const std::string& what) const {
  if (!config_) return;
  const std::pair<const char*, std::int32_t> heads[] = {{"num_q_heads", config.num_q_heads},
                                                        {"num_kv_heads", config.num_kv_heads},
                                                        {"head_dim_k", config.head_dim_k},
                                                        {"head_dim_v", config.head_dim_v}};
  for (const auto& [name, value] : heads) {
    const std::int64_t made_for = config_->value(name, std::int64_t{value});
    if (made_for != value)
      throw UsageError(fmt::format("--config: '{}' is not allowed: it was made for {} {}; {} has {}", path_, name,
                                   made_for, what, value));
  }
  const float scale = scale_of(config_->value("scale", 0.f), config.head_dim_k);
  const float wanted = scale_of(config.scale, config.head_dim_k);
  if (std::abs(scale - wanted) > 1e-5f * wanted)
    throw UsageError(
        fmt::format("--config: '{}' is not allowed: it was made for scale {}; {} has {}", path_, scale, what, wanted));
}

}  // namespace tandem::cli
