// tandem: the command line. One file per subcommand; this one parses, runs and turns failures into exit codes:
// 0 ok, 1 failed, 2 bad usage.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include "tandem/tandem.h"
#include "tools/tandem/command.h"
#include "tools/tandem/interrupt.h"
#include "tools/tandem/output.h"

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
    return report(kBadUsage, error.what());
  }
  catch_interrupts();
  action();
  finish_stdout();
  return 0;
}

}  // namespace
}  // namespace tandem::cli

int main(int argc, char** argv) {
  using namespace tandem::cli;
  try {
    return run(argc, argv);
  } catch (const UsageError& error) {
    return report(kBadUsage, error.what());
  } catch (const std::bad_alloc&) {
    return report(kFailed, "out of memory");
  } catch (const std::exception& error) {
    return report(kFailed, error.what());
  }
}
