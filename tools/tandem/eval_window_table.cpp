#include "tools/tandem/eval_window_table.h"

#include <set>

#include <fmt/format.h>

#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

std::string number(const Json& cell, const char* field) {
  return cell.at(field).is_null() ? "-" : short_number(cell.at(field).get<double>());
}

std::vector<std::string> row_of(const Json& cell) {
  const auto text = [&cell](const char* field) { return cell.at(field).get<std::string>(); };
  const std::vector<std::string> name = {text("policy"), text("codec"), text("host_tier")};
  const auto exact = fmt::format("{}/{}", cell.at("exact").get<int>(), cell.at("prompts").get<int>());
  return {name[0],
          name[1],
          name[2],
          exact,
          fmt::format("{:.3f}", cell.at("perplexity").get<double>()),
          fmt::format("{:+.3f}", cell.at("perplexity_change").get<double>()),
          number(cell.at("error"), "mean"),
          number(cell.at("error"), "p95"),
          number(cell.at("question_error"), "mean"),
          fmt::format("{:.1f}", cell.at("bytes_per_token").get<double>()),
          fmt::format("{:.1f}", cell.at("coded_bytes_per_token").get<double>()),
          fmt::format("{:.2f}", cell.at("bits_per_element").get<double>()),
          fmt::format("{:.1f}", 100 * cell.at("window_share").get<double>()),
          fmt::format("{:.0f}", cell.at("dropped_rows").get<double>())};
}

/// Cells that are missing in the table: each policy and codec once.
std::string refusals_of(const Json& cells) {
  std::string text;
  std::set<std::string> known;
  for (const auto& cell : cells) {
    if (!cell.contains("refused")) continue;
    const auto line = fmt::format("refused: {} {}: {}\n", cell.at("policy").get<std::string>(),
                                  cell.at("codec").get<std::string>(), cell.at("refused").get<std::string>());
    if (known.insert(line).second) text += line;
  }
  return text;
}

}  // namespace

std::string eval_window_text(const Json& report) {
  Table table({"policy", "codec", "host", "needles", "perplexity", "change", "error", "p95", "question", "B/token",
               "coded", "bits", "window %", "dropped"});
  const auto& dense = report.at("dense");
  table.add_row({"dense", "f32", "-",
                 fmt::format("{}/{}", dense.at("exact").get<int>(), report.at("prompts").get<int>()),
                 fmt::format("{:.3f}", dense.at("perplexity").get<double>())});
  for (const auto& cell : report.at("cells"))
    if (!cell.contains("refused")) table.add_row(row_of(cell));
  return table.text() + refusals_of(report.at("cells"));
}

}  // namespace tandem::cli
