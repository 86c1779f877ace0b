#include "bench/decode_step/report.h"

#include <fstream>

#include <fmt/format.h>
#include <sys/utsname.h>

#include "tools/tandem/table.h"

namespace tandem::bench {
namespace {

std::vector<std::string> table_row(const Json& row) {
  const auto number = [&row](const char* pointer) {
    const Json::json_pointer path(pointer);
    const Json value = row.contains(path) ? row.at(path) : Json(nullptr);
    return value.is_number() ? cli::short_number(value.get<double>()) : std::string("-");
  };
  return {row.at("name").get<std::string>(),
          fmt::format("{}", row.at("tokens").get<std::int64_t>()),
          fmt::format("{}", row.at("threads").get<int>()),
          fmt::format("{}", row.at("batch").get<int>()),
          row.at("host_dtype").get<std::string>(),
          row.at("cold").get<std::string>(),
          number("/us/min"),
          number("/us/median"),
          number("/us/p90"),
          number("/floor_us"),
          number("/gap"),
          number("/reachable_us"),
          number("/gap_of_reachable"),
          number("/worker_us/window"),
          number("/worker_us/select"),
          number("/worker_us/attend"),
          fmt::format("{:.2f}", 100 * row.at("rows_share").get<double>()),
          cli::human_bytes(row.at("bytes_per_step").get<double>()),
          number("/error/mean"),
          number("/error/p95"),
          number("/lse_error/mean"),
          number("/lse_error_estimate"),
          number("/index_bytes_per_token"),
          number("/build_ns_per_token")};
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

std::string table_of(const Json& rows) {
  cli::Table table({"method", "tokens",    "thr",   "batch",    "rows",      "cold",      "min us",  "median",
                    "p90",    "floor us",  "gap",   "reach us", "gap",       "window us", "select",  "attend",
                    "rows %", "read/step", "error", "p95",      "lse error", "estimate",  "index B", "build ns"});
  for (const Json& row : rows) table.add_row(table_row(row));
  return table.text();
}

Json machine_json(const Json& described) {
  utsname system{};
  uname(&system);
  Json machine = described.at("machine");
  machine["processor"] = processor_name();
  machine["kernel"] = fmt::format("{} {}", system.sysname, system.release);
  return machine;
}

}  // namespace tandem::bench
