#pragma once

#include <cstdint>
#include <string>

namespace tandem::cli {

/// `bytes` bytes of sentences from a small grammar, in the manner of the needle prompts' filler: a function of `seed`,
/// the same on every machine. A longer text begins with the shorter one.
std::string filler_text(std::size_t bytes, std::uint64_t seed);

}  // namespace tandem::cli
