#pragma once

namespace tandem::testing {

/// How often a statistical test repeats its draw: `count` times, but a tenth of that in a sanitized build, where a draw
/// takes about ten times as long and the test is there for what the sanitizer sees. The law itself is for the other
/// builds. Bounds on a standard error have to follow from the number that this returns.
constexpr int repetitions(int count) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // GCC's names
  return count / 10;
#else
  return count;
#endif
}

}  // namespace tandem::testing
