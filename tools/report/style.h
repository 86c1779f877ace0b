#pragma once

namespace tandem::report {

/// The style sheet of a page and of the pictures in it: light, dark where the reader prefers that, and light in print.
/// Fonts are the system's. Colours of series can be told apart without seeing red or green, and have a contrast of at
/// least 4.5:1 to the paper.
extern const char* const kStyle;

}  // namespace tandem::report
