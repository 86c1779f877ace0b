#include "tools/probes/processor.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <sstream>
#include <string_view>

#include <sys/utsname.h>

namespace tandem::probes {
namespace {

constexpr std::array kEmptyWords = {"intel",  "amd",       "processor", "cpu", "core",    "gold",
                                    "silver", "bronze",    "platinum",  "max", "genuine", "family",
                                    "with",   "authentic", "r",         "tm",  "the"};

std::string without_marks(std::string title) {
  for (const std::string_view mark : {"(R)", "(r)", "(TM)", "(tm)"})
    for (auto at = title.find(mark); at != std::string::npos; at = title.find(mark)) title.erase(at, mark.size());
  return title.substr(0, title.find(" @"));  // what follows is a frequency
}

std::string lower(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  return word;
}

/// Letters, digits and "+"; anything else separates.
std::string slug(const std::string& word) {
  std::string text;
  for (const char c : word) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+') {
      text += c;
    } else if (!text.empty() && text.back() != '-') {
      text += '-';
    }
  }
  while (!text.empty() && text.back() == '-') text.pop_back();
  return text;
}

bool says_nothing(const std::string& word) {
  return std::find(kEmptyWords.begin(), kEmptyWords.end(), word) != kEmptyWords.end() || word.ends_with("-core");
}

}  // namespace

std::string processor_title() {
  std::ifstream file("/proc/cpuinfo");
  std::string implementer, part;
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) return line.substr(colon + 2);
    if (line.starts_with("CPU implementer")) implementer = line.substr(colon + 2);
    if (line.starts_with("CPU part")) part = line.substr(colon + 2);
  }
  return implementer.empty() ? "" : "Arm " + implementer + " " + part;
}

std::string short_name(const std::string& title) {
  std::istringstream words(without_marks(title));
  std::string name;
  for (std::string word; words >> word;) {
    const std::string plain = slug(lower(word));
    if (plain.empty() || says_nothing(plain)) continue;
    name += (name.empty() ? "" : "-") + plain;
  }
  const bool has_model = std::any_of(name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (!has_model) name = slug(lower(without_marks(title)));
  return name.empty() ? "host" : name;
}

std::string kernel_release() {
  utsname names{};
  return uname(&names) == 0 ? names.release : "";
}

}  // namespace tandem::probes
