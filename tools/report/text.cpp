#include "tools/report/text.h"

#include <array>
#include <cstdint>

namespace tandem::report {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr char32_t kEllipsis = 0x2026;

bool allowed(char32_t point) {
  if (point < 0x20) return point == '\t' || point == '\n' || point == '\r';
  if (point >= 0x7F && point < 0xA0) return false;
  return point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF) && (point & 0xFFFE) != 0xFFFE;
}

int length_of(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return 2;
  if (first >= 0xE0 && first < 0xF0) return 3;
  return first >= 0xF0 && first < 0xF5 ? 4 : 0;
}

/// The code point that `text` begins with, which is taken from it; of malformed text one byte is.
char32_t take(std::string_view& text) {
  const auto first = static_cast<unsigned char>(text.front());
  const int length = length_of(first);
  char32_t point = length == 1 ? first : first & (0x7FU >> length);
  bool whole = length > 0 && static_cast<std::size_t>(length) <= text.size();
  for (int i = 1; whole && i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[static_cast<std::size_t>(i)]);
    whole = (byte & 0xC0U) == 0x80U;
    point = (point << 6U) | (byte & 0x3FU);
  }
  static constexpr std::array<char32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};  // anything longer is overlong
  whole = whole && point >= kLeast[static_cast<std::size_t>(length)];
  text.remove_prefix(whole ? static_cast<std::size_t>(length) : 1);
  return whole && allowed(point) ? point : kReplacement;
}

void append(std::string& text, char32_t point) {
  const auto byte = [&](char32_t value) { text += static_cast<char>(static_cast<unsigned char>(value)); };
  if (point < 0x80) {
    byte(point);
    return;
  }
  const int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  byte(((0xF00U >> static_cast<unsigned>(more + 1)) & 0xFFU) | (point >> static_cast<unsigned>(6 * more)));
  for (int i = more - 1; i >= 0; --i) byte(0x80U | ((point >> static_cast<unsigned>(6 * i)) & 0x3FU));
}

// Advances of ' ' to '~' in hundredths of the size.
constexpr std::array<std::uint8_t, 95> kAdvances = {
    32, 41, 46, 84, 64, 96, 78, 28, 40,  40, 50, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 34, 34, 84, 84, 84, 54, 100, 69, 69, 70, 78, 64, 58, 78, 76, 30, 30, 66, 56, 87, 75, 79,
    61, 79, 70, 64, 62, 74, 69, 99, 69,  62, 69, 40, 34, 40, 84, 50, 50, 62, 64, 55, 64, 62, 36, 64,
    64, 28, 28, 58, 28, 98, 64, 62, 64,  64, 42, 53, 40, 64, 60, 82, 60, 60, 53, 64, 34, 64, 84};

double advance(char32_t point) {
  if (point < 0x20) return 0.32;  // tabs and line ends are set as spaces
  if (point < 0x7F) return kAdvances[point - 0x20] / 100.0;
  if (point == 0xB2 || point == 0xB3 || point == 0xB9 || (point >= 0x2070 && point <= 0x207F)) return 0.55;
  if (point == 0xB5 || point == 0xB7 || point == 0x2013) return 0.65;  // micro sign, middle dot, en dash
  if (point < 0x180) return 1.0;
  if (point == 0x2009) return 0.32;  // thin space
  if (point >= 0x2010 && point < 0x2030) return 1.0;
  if (point >= 0x1F000) return 1.6;
  return point >= 0x2030 && point < 0x2E80 ? 1.75 : 1.45;
}

}  // namespace

std::u32string code_points(std::string_view text) {
  std::u32string points;
  while (!text.empty()) points += take(text);
  return points;
}

std::string utf8(std::u32string_view points) {
  std::string text;
  for (const char32_t point : points) append(text, point);
  return text;
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char32_t point : code_points(text)) {
    switch (point) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        append(result, point);
    }
  }
  return result;
}

double text_width(std::string_view text, double size) {
  double sum = 0;
  for (const char32_t point : code_points(text)) sum += advance(point);
  return sum * size;
}

std::string elided(std::string_view text, double size, double width) {
  if (text_width(text, size) <= width) return std::string(text);
  double left = width / size - advance(kEllipsis);
  std::u32string kept;
  for (const char32_t point : code_points(text)) {
    left -= advance(point);
    if (left < 0) break;
    kept += point;
  }
  while (!kept.empty() && kept.back() == ' ') kept.pop_back();
  return kept.empty() ? std::string() : utf8(kept += kEllipsis);
}

}  // namespace tandem::report
