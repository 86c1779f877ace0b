#include "tools/plan/system.h"

#include <cctype>
#include <filesystem>
#include <vector>

#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

constexpr int kMostParts = 64;

/// Between plus signs; one that ends the text, or has another behind it, belongs to the name ("xeon-8480+").
std::vector<std::string> parts_of(const std::string& text) {
  if (std::filesystem::is_regular_file(text)) return {text};
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool ends_name = !parts.back().empty() && (i + 1 == text.size() || text[i + 1] == '+');
    if (text[i] != '+' || ends_name) {
      parts.back() += text[i];
    } else {
      parts.emplace_back();
    }
  }
  return parts;
}

/// "2xt4" -> 2 and "t4"; without digits and an x, 1. A file is never counted, as its name may begin like that.
int take_count(std::string& part) {
  std::size_t digits = 0;
  while (digits < part.size() && std::isdigit(static_cast<unsigned char>(part[digits])) != 0) ++digits;
  if (digits == 0 || digits + 1 >= part.size() || part[digits] != 'x' || std::filesystem::exists(part)) return 1;
  const int count = digits > 3 ? 0 : std::stoi(part.substr(0, digits));
  TANDEM_CHECK(count >= 1 && count <= kMostParts, invalid_argument, "'", part, "' asks for ", part.substr(0, digits),
               " of a part; allowed: 1 to ", kMostParts);
  part = part.substr(digits + 1);
  return count;
}

void add(const Machine& machine, int count, const std::string& text, System& system, bool& has_cpu) {
  TANDEM_CHECK(machine.gpus.empty() || !system.gpu, invalid_argument, "machine '", text,
               "' has two kinds of GPUs; allowed: one, with a number before it where there are several");
  TANDEM_CHECK(!machine.cpu || !has_cpu, invalid_argument, "machine '", text,
               "' has two kinds of processors; allowed: one, with a number before it where there are several");
  if (!machine.gpus.empty()) {
    system.gpu = machine.gpus.front();
    system.num_gpus = machine.cpu ? 1 : count;
  }
  if (machine.cpu) {
    system.cpu = *machine.cpu;
    system.num_cpus = count;
    system.step_costs = machine.step_costs;
    has_cpu = true;
  }
}

}  // namespace

System system_from(const Catalog& catalog, const std::string& text, const std::string& default_cpu) {
  System system;
  system.name = text;
  bool has_cpu = false;
  for (std::string part : parts_of(text)) {
    TANDEM_CHECK(!part.empty(), invalid_argument, "machine '", text,
                 "' has an empty part; allowed: GPU, CPU or GPU+CPU");
    const int count = take_count(part);
    add(catalog.machine(part), count, text, system, has_cpu);
  }
  if (!has_cpu) {
    std::string part = default_cpu;
    const int count = take_count(part);
    const Machine machine = catalog.machine(part);
    TANDEM_CHECK(machine.cpu && machine.gpus.empty(), invalid_argument, "cpu is '", default_cpu,
                 "', which is not a processor; allowed: a processor of 'tandem plan list'");
    add(machine, count, text, system, has_cpu);
    system.cpu_was_named = false;
  }
  return system;
}

}  // namespace tandem::plan
