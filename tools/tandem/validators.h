#pragma once

#include <charconv>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "tools/tandem/options.h"

namespace tandem::cli {

/// Accepts a number in [low, high], all of it; otherwise the error says `allowed`.
template <typename Number>
CLI::Validator number_in(Number low, Number high, std::string allowed) {
  const auto check = [=](const std::string& text) -> std::string {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc{} && end == text.data() + text.size();
    if (whole && value >= low && value <= high) return {};
    return not_allowed("", text, allowed);
  };
  return {check, ""};
}

/// Accepts one of `names`.
CLI::Validator one_of(std::vector<std::string> names);

}  // namespace tandem::cli
