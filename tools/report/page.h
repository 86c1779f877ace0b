#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/report/scale.h"
#include "tools/report/svg.h"

namespace tandem::report {

/// Widths in which a page draws each chart: for screens and print, and for narrow screens.
inline constexpr double kWideChart = 720;
inline constexpr double kNarrowChart = 360;

/// How a number is known.
enum class Badge { none, measured, published, assumed };

struct Cell {
  std::string text = {};
  std::string range = {};  ///< "11-14": set pale in a column of its own behind the text
  Badge badge = Badge::none;
  bool number = false;       ///< set right
  std::string tooltip = {};  ///< where it is from, say
};

/// A cell with a number of three significant digits, and with its range where `low` < `high`.
Cell number_cell(double value, Numbers numbers = Numbers::plain);
Cell number_cell(double value, double low, double high, Badge badge, Numbers numbers = Numbers::plain);

struct Table {
  std::string caption = {};
  std::vector<std::string> header = {};      ///< set right above columns of numbers
  std::vector<std::vector<Cell>> rows = {};  ///< missing cells at the end are empty
};

enum class Note { information, caution };

/// One self-contained page of HTML, in the order in which its parts are added: style and pictures are in it, nothing is
/// loaded, and no script is needed. All text is UTF-8 and is escaped; `words` between backticks are set as code in
/// paragraphs, notes and captions.
class Page {
 public:
  explicit Page(std::string title, std::string subtitle = {});

  void section(std::string_view heading);
  void paragraph(std::string_view text);
  void note(Note kind, std::string_view title, std::string_view text);
  /// Throws Error(invalid_argument) naming the row when it has more cells than the header.
  void table(const Table& table);
  /// A chart that draw(chart, width) draws, once for each width. Throws what that throws.
  template <typename Chart>
  void figure(const Chart& chart, std::string_view caption) {
    figure(draw(chart, kWideChart), draw(chart, kNarrowChart), caption);
  }
  void figure(const Svg& wide, const Svg& narrow, std::string_view caption);

  /// The whole document.
  [[nodiscard]] std::string html() const;

 private:
  std::string title_;
  std::string subtitle_;
  std::vector<std::string> sections_;
  std::string body_;
  int figures_ = 0;
};

}  // namespace tandem::report
