#include "tools/report/page.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/report/style.h"
#include "tools/report/text.h"

namespace tandem::report {
namespace {

constexpr std::size_t kSectionsForContents = 3;

const char* name_of(Badge badge) {
  switch (badge) {
    case Badge::measured:
      return "measured";
    case Badge::published:
      return "published";
    case Badge::assumed:
      return "assumed";
    case Badge::none:
      break;
  }
  return "";
}

/// Escaped, with what stands between two backticks as code; a backtick without its pair is itself.
std::string rich(std::string_view text) {
  std::string result;
  for (;;) {
    const auto open = text.find('`');
    const auto close = open == text.npos ? text.npos : text.find('`', open + 1);
    if (close == text.npos) return result + escaped(text);
    result += escaped(text.substr(0, open));
    result += "<code>" + escaped(text.substr(open + 1, close - open - 1)) + "</code>";
    text.remove_prefix(close + 1);
  }
}

/// Whether a column holds numbers, and perhaps empty cells.
bool is_numeric(const Table& table, std::size_t column) {
  bool any = false;
  for (const auto& row : table.rows) {
    if (column >= row.size() || row[column].text.empty()) continue;
    if (!row[column].number) return false;
    any = true;
  }
  return any;
}

/// How a column of a table is set: ranges and kinds line up in columns of their own.
struct Column {
  bool number = false;
  bool range = false;
  bool badge = false;

  [[nodiscard]] bool parts() const { return range || badge; }
};

std::vector<Column> columns_of(const Table& table) {
  std::vector<Column> columns(table.header.size());
  for (std::size_t i = 0; i < columns.size(); ++i) columns[i].number = is_numeric(table, i);
  for (const auto& row : table.rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      columns[i].range = columns[i].range || !row[i].range.empty();
      columns[i].badge = columns[i].badge || row[i].badge != Badge::none;
    }
  return columns;
}

std::string header_html(const std::string& text, const Column& column) {
  std::string classes = column.number ? "number" : "";
  if (column.parts()) classes += classes.empty() ? "beside" : " beside";
  std::string html = "<th scope=\"col\"";
  if (!classes.empty()) html += " class=\"" + classes + '"';
  html += '>' + escaped(text) + "</th>";
  if (column.range) html += "<th scope=\"col\" class=\"beside\">Range</th>";
  if (column.badge) html += "<th></th>";
  return html;
}

std::string cell_html(const Cell& cell, const Column& column) {
  std::string classes = cell.number ? "number" : "";
  if (column.parts()) classes += classes.empty() ? "beside" : " beside";
  std::string html = "<td";
  if (!classes.empty()) html += " class=\"" + classes + '"';
  if (!cell.tooltip.empty()) html += " title=\"" + escaped(cell.tooltip) + '"';
  html += '>' + escaped(cell.text) + "</td>";
  if (column.range) html += "<td class=\"range beside\">" + escaped(cell.range) + "</td>";
  if (column.badge && cell.badge == Badge::none) html += "<td></td>";
  if (column.badge && cell.badge != Badge::none)
    html += fmt::format("<td class=\"kind\"><span class=\"badge {0}\">{0}</span></td>", name_of(cell.badge));
  return html;
}

}  // namespace

Cell number_cell(double value, Numbers numbers) {
  checked(value, Axis{}, "table", "a number");
  return {.text = number_text(value, numbers), .number = true};
}

Cell number_cell(double value, double low, double high, Badge badge, Numbers numbers) {
  Cell cell = number_cell(value, numbers);
  checked(low, Axis{}, "table", "low");
  checked(high, Axis{}, "table", "high");
  if (low < high) cell.range = number_text(low, numbers) + "\u2013" + number_text(high, numbers);
  cell.badge = badge;
  return cell;
}

Page::Page(std::string title, std::string subtitle) : title_(std::move(title)), subtitle_(std::move(subtitle)) {}

void Page::section(std::string_view heading) {
  sections_.emplace_back(heading);
  body_ += fmt::format("<h2 id=\"section-{}\">{}</h2>\n", sections_.size(), escaped(heading));
}

void Page::paragraph(std::string_view text) { body_ += "<p>" + rich(text) + "</p>\n"; }

void Page::note(Note kind, std::string_view title, std::string_view text) {
  body_ += kind == Note::caution ? "<aside class=\"caution\">" : "<aside>";
  if (!title.empty()) body_ += "<strong>" + escaped(title) + "</strong>";
  body_ += "<p>" + rich(text) + "</p></aside>\n";
}

void Page::table(const Table& table) {
  for (std::size_t i = 0; i < table.rows.size(); ++i)
    TANDEM_CHECK(table.rows[i].size() <= table.header.size(), invalid_argument, "table '", table.caption, "': row ", i,
                 " has ", table.rows[i].size(), " cells; the header has ", table.header.size());
  body_ += "<div class=\"scroll\"><table>\n";
  if (!table.caption.empty()) body_ += "<caption>" + rich(table.caption) + "</caption>\n";
  const auto columns = columns_of(table);
  body_ += "<thead><tr>";
  for (std::size_t i = 0; i < columns.size(); ++i) body_ += header_html(table.header[i], columns[i]);
  body_ += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    body_ += "<tr>";
    for (std::size_t i = 0; i < columns.size(); ++i) body_ += cell_html(i < row.size() ? row[i] : Cell{}, columns[i]);
    body_ += "</tr>\n";
  }
  body_ += "</tbody></table></div>\n";
}

void Page::figure(const Svg& wide, const Svg& narrow, std::string_view caption) {
  body_ += fmt::format(
      "<figure>\n<div class=\"wide\">{}</div>\n<div class=\"narrow\">{}</div>\n"
      "<figcaption><b>Figure {}.</b> {}</figcaption>\n</figure>\n",
      wide.markup(), narrow.markup(), ++figures_, rich(caption));
}

std::string Page::html() const {
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>{}</style>\n</head>\n"
      "<body>\n<main>\n<header>\n<h1>{}</h1>\n",
      escaped(title_), kStyle, escaped(title_));
  if (!subtitle_.empty()) html += "<p>" + escaped(subtitle_) + "</p>\n";
  if (sections_.size() >= kSectionsForContents) {
    html += "<nav>";
    for (std::size_t i = 0; i < sections_.size(); ++i)
      html += fmt::format("<a href=\"#section-{}\">{}</a> ", i + 1, escaped(sections_[i]));
    html += "</nav>\n";
  }
  return html + "</header>\n" + body_ + "</main>\n</body>\n</html>\n";
}

}  // namespace tandem::report
