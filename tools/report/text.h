#pragma once

#include <string>
#include <string_view>

namespace tandem::report {

/// The code points of UTF-8 text. Bytes that are no UTF-8, and what XML does not allow (control characters, surrogates,
/// non-characters), become U+FFFD.
std::u32string code_points(std::string_view text);

/// UTF-8 of code points; the inverse of code_points() on what that accepts.
std::string utf8(std::u32string_view points);

/// Text as content or attribute value of HTML and SVG: & < > " ' as entities, everything else as code_points() says.
std::string escaped(std::string_view text);

/// At least the width in pixels at which a browser sets `text` in a sans-serif face of `size` pixels, in regular
/// weight. Of ASCII the advances of DejaVu Sans, one of the widest faces in use (as wide as Verdana); of everything
/// else the widest glyph of its block.
double text_width(std::string_view text, double size);

/// `text`, or as much of its beginning as fits into `width` with an ellipsis; empty when not even that fits.
std::string elided(std::string_view text, double size, double width);

}  // namespace tandem::report
