#include "tools/tandem/table.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

#include <fmt/format.h>

namespace tandem::cli {

void Table::add_row(std::vector<std::string> cells) {
  assert(cells.size() <= rows_.front().size());
  cells.resize(rows_.front().size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<std::size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());

  std::string text;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    std::string line = fmt::format("{:<{}}", rows_[r][0], widths[0]);
    for (std::size_t i = 1; i < widths.size(); ++i) line += fmt::format("  {:>{}}", rows_[r][i], widths[i]);
    if (r == 0) line += '\n' + std::string(line.size(), '-');
    text += line + '\n';
  }
  return text;
}

std::string human_bytes(double bytes) {
  static constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "-";
  return fmt::format("{:.4g}", value);
}

}  // namespace tandem::cli
