#include "tools/tandem/needles.h"

#include <sstream>

#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "tools/formats/input_file.h"

namespace tandem::cli {
namespace {

/// `field` of `object`, which is on `where` (file and line).
std::string text_field(const nlohmann::json& object, const char* field, const std::string& where) {
  const auto entry = object.find(field);
  TANDEM_CHECK(entry != object.end(), io, where, ": \"", field, "\" is missing");
  TANDEM_CHECK(entry->is_string(), io, where, ": \"", field, "\" is ", entry->type_name(), "; allowed: string");
  return entry->get<std::string>();
}

NeedlePrompt parse_line(const std::string& line, const std::string& where) {
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  TANDEM_CHECK(object.is_object(), io, where, " is not a JSON object");
  NeedlePrompt prompt{.id = where,
                      .context = text_field(object, "context", where),
                      .question = text_field(object, "question", where),
                      .answer = text_field(object, "answer", where)};
  if (object.contains("id")) prompt.id = text_field(object, "id", where);
  TANDEM_CHECK(!prompt.question.empty(), io, where, ": \"question\" is empty");
  TANDEM_CHECK(!prompt.answer.empty(), io, where, ": \"answer\" is empty");
  return prompt;
}

}  // namespace

std::vector<NeedlePrompt> load_needles(const std::filesystem::path& path, const std::string& option) {
  std::istringstream file(tools::InputFile(path, option).text());
  std::vector<NeedlePrompt> prompts;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number)
    if (!line.empty()) prompts.push_back(parse_line(line, concat(path, " line ", number)));
  TANDEM_CHECK(!prompts.empty(), io, path, " holds no prompts");
  return prompts;
}

}  // namespace tandem::cli
