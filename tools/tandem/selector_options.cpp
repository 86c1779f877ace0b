#include "tools/tandem/selector_options.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "lsh/sketch_sampling.h"
#include "runtime/base/error.h"
#include "runtime/selector_json.h"
#include "tools/formats/input_file.h"
#include "tools/tandem/command.h"
#include "tools/tandem/options.h"
#include "tools/tandem/selector_text.h"
#include "tools/tandem/validators.h"

namespace tandem::cli {
namespace {

constexpr const char* kSelectorGroup = "Which host rows a step attends to";

struct Knob {
  std::string_view option, field;  ///< of the command line, of td_selector's JSON
};
constexpr Knob kKnobs[] = {{"--lsh", "lsh_bits"},          {"--min-collisions", "lsh_min_collisions"},
                           {"--lsh-planes", "lsh_planes"}, {"--budget", "budget"},
                           {"--error", "error"},           {"--sketch-bits", "sketch_bits"},
                           {"--unbiased", "unbiased"}};

/// 1 << td_selector_kind for each kind that has `field`.
unsigned kinds_with(std::string_view field) {
  for (const SelectorField& each : kSelectorFields)
    if (each.name == field) return each.kinds;
  return 0;
}

/// "topk, sketch", as the option --selector spells them.
std::string names_of(unsigned kinds) {
  std::vector<std::string> names;
  for (std::size_t kind = 0; kind < kSelectorKinds.size(); ++kind)
    if ((kinds >> kind & 1u) != 0) names.emplace_back(kSelectorKinds.at(kind));
  std::string list = fmt::format("{}", fmt::join(names, ", "));
  std::replace(list.begin(), list.end(), '_', '-');
  return list;
}

/// A validator made of a parser that throws UsageError.
template <typename Parse>
CLI::Validator parsed_by(Parse parse) {
  const auto check = [parse](const std::string& text) -> std::string {
    try {
      parse(text);
      return {};
    } catch (const UsageError& error) {
      return error.what();
    }
  };
  return {check, ""};
}

/// Whether --error asks for something that `selector`, which has a budget of its own, does not do.
bool overruled(const SelectorOptions& options, const td_selector& selector) {
  return options.error > 0 && selector.error <= 0;
}

std::string read_profile(const std::string& path) {
  std::string text = tools::InputFile(path, "--profile").text();
  TANDEM_CHECK(Json::accept(text), invalid_argument, "--profile: '", path, "' is not JSON");
  return text;
}

}  // namespace

void add_selector(CLI::App& app, SelectorOptions& options) {
  const std::string group = kSelectorGroup;
  app.add_option("--selector", options.selector,
                 fmt::format("{}, alone or with its knobs, as in topk:0.02 or sketch:budget=0.02,sketch_bits=1 [{}]",
                             selector_kinds(), options.selector))
      ->check(parsed_by([](const std::string& text) {
        td_selector ignored{};
        read_selector("", parse_selector("", text), ignored);
      }))
      ->group(group);
  app.add_option("--lsh", options.lsh, "lsh: K,L, sign bits per table and number of tables [10,150]")
      ->type_name("K,L")
      ->check(parsed_by([](const std::string& text) {
        td_selector ignored{};
        parse_lsh("", text, ignored);
      }))
      ->group(group);
  app.add_option("--min-collisions", options.min_collisions, "lsh: tables that must agree on a row, 1 or 2 [2]")
      ->check(number_in(1, 2, "1 or 2"))
      ->group(group);
  app.add_option("--lsh-planes", options.lsh_planes, "lsh: hadamard or gaussian: where sign bits come from [hadamard]")
      ->check(one_of({"hadamard", "gaussian"}))
      ->group(group);
  app.add_option("--budget", options.budget,
                 fmt::format("topk, sketch: share of the host rows, in (0, 1]; at least {} rows with sketch and\n"
                             "sketch-topk, one with topk [{}]",
                             lsh::kFewestDrawn, options.budget))
      ->check(parsed_by([](const std::string& text) { parse_budget("", text); }))
      ->group(group);
  app.add_option("--error", options.error,
                 "sketch: wanted relative error of the output, below 1, in place of a budget; 0: none [0]")
      ->check(number_in(0.0, 0.999, "a relative error from 0 to 0.999"))
      ->group(group);
  app.add_option("--sketch-bits", options.sketch_bits,
                 "sketch: bits per dimension of a key's code, 1 or 2; 0: 1 where that is enough [0]")
      ->check(number_in(0, 2, "0, 1 or 2"))
      ->group(group);
  app.add_flag("--unbiased", options.unbiased, "sketch: plain Horvitz-Thompson estimate")->group(group);
  app.add_flag("--always-select", options.always_select,
               "select in short contexts too, where attending to every row takes less time")
      ->group(group);
  app.add_option_function<std::string>(
         "--profile", [&options](const std::string& path) { options.profile = read_profile(path); },
         "file of 'tandem profile --out': what decides where selecting pays [built in]")
      ->type_name("FILE")
      ->group(group);
}

void add_auto_split(CLI::App& app, SelectorOptions& options) {
  app.add_flag("--auto-split", options.auto_split,
               "correct the profile by what steps take: where they select then depends on time")
      ->excludes("--always-select")
      ->group(kSelectorGroup);
}

void note_given(const CLI::App& app, SelectorOptions& options) {
  for (const CLI::Option* option : app.get_options([](const CLI::Option* each) { return each->count() > 0; }))
    if (option->get_group() == kSelectorGroup) options.given.push_back(option->get_name());
}

void refuse_unused(const SelectorOptions& options, const std::vector<td_selector>& selectors,
                   const std::string& chosen_by) {
  for (const std::string& option : options.given) {
    const auto* knob =
        std::find_if(std::begin(kKnobs), std::end(kKnobs), [&](const Knob& each) { return each.option == option; });
    if (knob == std::end(kKnobs)) continue;
    const unsigned kinds = kinds_with(knob->field);
    bool known = false;
    bool used = false;
    for (const td_selector& selector : selectors) {
      if ((kinds >> selector.kind & 1u) == 0) continue;
      known = true;
      used = used || !(option == "--budget" ? selector.error > 0 : option == "--error" && overruled(options, selector));
    }
    if (!known)
      throw UsageError(fmt::format("{}: not allowed with {}, which makes no use of it; allowed with: {}", option,
                                   chosen_by, names_of(kinds)));
    if (!used)
      throw UsageError(
          option == "--budget"
              ? "--budget: not allowed with --error, which takes as many rows as it needs; allowed: one of them"
              : fmt::format("--error: not allowed with {}, which selects by a budget; allowed: one of them",
                            chosen_by));
  }
}

td_selector to_selector(const SelectorOptions& options, std::uint64_t seed) {
  auto selector = td::make<td_selector>();
  selector.seed = seed;
  selector.budget = options.budget;
  selector.lsh_min_collisions = options.min_collisions;
  selector.lsh_planes = options.lsh_planes == "gaussian" ? TD_PLANES_GAUSSIAN : TD_PLANES_HADAMARD;
  parse_lsh("--lsh", options.lsh, selector);
  selector.error = options.error;
  selector.sketch_bits = options.sketch_bits;
  selector.unbiased = options.unbiased ? 1 : 0;
  read_selector("--selector", parse_selector("--selector", options.selector), selector);
  return selector;
}

void apply(const SelectorOptions& options, td_config& config) {
  config.never_slower = options.always_select ? TD_OFF : TD_ON;
  config.auto_split = options.auto_split ? TD_ON : TD_OFF;
  config.profile = options.profile ? options.profile->c_str() : nullptr;
}

}  // namespace tandem::cli
