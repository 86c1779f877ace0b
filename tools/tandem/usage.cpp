#include "tools/tandem/usage.h"

#include <algorithm>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/plan/nearest_name.h"

namespace tandem::cli {
namespace {

/// The option of `command` that `word` was probably meant to be, or empty.
std::string nearest_option(const CLI::App& command, const std::string& word) {
  constexpr std::size_t kMostEdits = 3;
  std::string nearest;
  std::size_t fewest = kMostEdits + 1;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      const bool inside = word.ends_with('-' + name);  // --sketch-error for --error
      const std::size_t distance = inside ? 1 : plan::edit_distance(word, "--" + name);
      if (distance >= fewest) continue;
      fewest = distance;
      nearest = "--" + name;
    }
  }
  return nearest;
}

std::string unknown_word_text(const CLI::App& app, const CLI::App& command) {
  const auto words = app.remaining(/*recurse=*/true);
  const auto option = std::find_if(words.begin(), words.end(), [](const auto& each) { return each.starts_with('-'); });
  const std::string word = option != words.end() ? *option : words.front();
  std::string name = command.get_name();
  for (const CLI::App* parent = command.get_parent(); parent != nullptr; parent = parent->get_parent())
    name = parent->get_name() + ' ' + name;
  const std::string nearest = nearest_option(command, word.substr(0, word.find('=')));
  return fmt::format("{}: '{}' is not known{}; '{} --help' lists what is", name, word,
                     nearest.empty() ? "" : fmt::format(", did you mean {}?", nearest), name);
}

}  // namespace

std::string usage_text(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  const auto words = app.remaining(/*recurse=*/true);
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr && !words.empty())
    return unknown_word_text(app, *command);
  // The parser only says that a subcommand is required; the user wants to know which word was wrong and what exists.
  const auto commands = command->get_subcommands([](const CLI::App*) { return true; });
  if (commands.empty() || dynamic_cast<const CLI::RequiredError*>(&error) == nullptr) return error.what();
  std::string text = words.empty() ? "a command is missing" : "'" + words.front() + "' is not a command";
  for (const char* separator = "; allowed: "; const CLI::App* each : commands) {
    text += separator + each->get_name();
    separator = ", ";
  }
  return text;
}

}  // namespace tandem::cli
