#include "tools/plan/nearest_name.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace tandem::plan {

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);  // distances of the first letters of a to all beginnings of b
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

namespace {

/// One is how the other begins, as a100 of a100-40.
bool begins(const std::string& a, const std::string& b) {
  return !a.empty() && !b.empty() && (a.starts_with(b) || b.starts_with(a));
}

bool is_near(const std::string& a, const std::string& b) {
  return begins(a, b) || 2 * edit_distance(a, b) <= std::max(a.size(), b.size());
}

}  // namespace

std::vector<std::string> nearest_names(const std::string& name, std::vector<std::string> names, std::size_t most) {
  std::erase_if(names, [&name](const std::string& other) { return !is_near(name, other); });
  std::stable_sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
    return std::pair(!begins(name, a), edit_distance(name, a)) < std::pair(!begins(name, b), edit_distance(name, b));
  });
  if (names.size() > most) names.resize(most);
  return names;
}

}  // namespace tandem::plan
