#include <algorithm>

#include "tools/llama/llama.h"

namespace tandem::llama {

std::vector<std::int32_t> encode_bytes(std::string_view text) {
  std::vector<std::int32_t> tokens;
  tokens.reserve(text.size());
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

char decode_byte(std::int32_t token) { return token >= 0 && token < 256 ? static_cast<char>(token) : '\0'; }

std::int32_t argmax(const std::vector<float>& logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace tandem::llama
