// tandem: the command line. One file per subcommand; this one parses, runs and turns failures into exit codes:
// 0 ok, 1 failed, 2 bad usage.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <system_error>

#include <CLI/CLI.hpp>

#include "tandem/tandem.h"
#include "tools/tandem/command.h"
#include "tools/tandem/interrupt.h"
#include "tools/tandem/output.h"
#include "tools/tandem/usage.h"

namespace tandem::cli {
namespace {

constexpr int kFailed = 1;
constexpr int kBadUsage = 2;

/// One line on stderr, whatever the message holds.
int report(int exit_code, std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::fprintf(stderr, "tandem: %s\n", message.c_str());
  return exit_code;
}

void add_eval(CLI::App& app, Action& action) {
  CLI::App* eval = app.add_subcommand("eval", "Measure how well attention methods do on a task");
  eval->require_subcommand(1);
  eval->footer("Example:\n  tandem eval needles --help");
  add_eval_needles(*eval, action);
  add_eval_window(*eval, action);
  add_eval_codecs(*eval, action);
}

void add_subcommands(CLI::App& app, Action& action) {
  app.name("tandem");
  app.set_version_flag("--version", std::string("tandem ") + td_version());
  app.require_subcommand(1);
  app.footer(
      "Exit code: 0 ok, 1 failed, 2 bad usage. 'tandem COMMAND --help' has an example of each.\n"
      "Example:\n  tandem info");
  add_info(app, action);
  add_generate(app, action);
  add_run(app, action);
  add_eval(app, action);
  add_synth(app, action);
  add_profile(app, action);
  add_calibrate(app, action);
  add_plan(app, action);
}

int run(int argc, char** argv) {
  CLI::App app{
      "Attention over KV caches larger than a GPU's memory: a window of the latest tokens plus the few host rows\n"
      "that matter."};
  Action action;
  add_subcommands(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success))
      return app.exit(error);  // --help, --version
    return report(kBadUsage, usage_text(app, error));
  }
  catch_interrupts();
  action();
  finish_stdout();
  return 0;
}

/// The exit code; every object of ours is gone when this returns.
int exit_code_of(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const UsageError& error) {
    return report(kBadUsage, error.what());
  } catch (const std::bad_alloc&) {
    return report(kFailed, "out of memory");
  } catch (const std::filesystem::filesystem_error& error) {
    return report(kFailed, error.what());
  } catch (const std::system_error& error) {
    return report(kFailed, std::string("cannot start threads: ") + error.what());
  } catch (const std::exception& error) {
    return report(kFailed, error.what());
  }
}

}  // namespace
}  // namespace tandem::cli

int main(int argc, char** argv) {
  const int exit_code = tandem::cli::exit_code_of(argc, argv);
  if (*TANDEM_SANITIZERS != '\0') return exit_code;  // they look for leaks in an exit handler
  // Not through exit handlers otherwise: where memory is short, OpenBLAS's joins a worker that tries for ever to get
  // its buffer, and that may be so after a success too.
  std::fflush(stdout);
  std::fflush(stderr);
  std::_Exit(exit_code);
}
