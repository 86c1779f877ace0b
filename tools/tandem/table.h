#pragma once

#include <string>
#include <vector>

namespace tandem::cli {

/// Plain text columns: the first is aligned left, the others right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}

  /// Missing cells at the end are empty; more cells than the header has are a mistake.
  void add_row(std::vector<std::string> cells);
  /// Every line ends with a newline; a rule separates the header.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// "12.3 MiB" and the like.
std::string human_bytes(double bytes);
/// Four significant digits, or "-" when the value is not finite.
std::string short_number(double value);

}  // namespace tandem::cli
