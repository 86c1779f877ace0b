#pragma once

#include <functional>
#include <stdexcept>

#include "tools/tandem/cli_fwd.h"

namespace tandem::cli {

/// Bad usage: the message names the option, its value and what is allowed. Becomes exit code 2; any other exception
/// is 1.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What the chosen subcommand does, set while parsing and run afterwards, so that nothing works inside the parser.
using Action = std::function<void()>;

/// Each adds one subcommand, its options and its help to `app`.
void add_info(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_run(CLI::App& app, Action& action);
void add_profile(CLI::App& app, Action& action);
void add_synth(CLI::App& app, Action& action);
void add_calibrate(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);

/// Subcommand of `profile`.
void add_profile_split(CLI::App& profile, Action& action);

/// Subcommands of `eval`.
void add_eval_needles(CLI::App& eval, Action& action);
void add_eval_window(CLI::App& eval, Action& action);
void add_eval_codecs(CLI::App& eval, Action& action);

}  // namespace tandem::cli
