#include "tools/ggml/cache_tensor.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "ggml.h"

namespace tandem::ggml {
namespace {

constexpr std::string_view kKeys = "cache_k_l";
constexpr std::string_view kValues = "cache_v_l";

}  // namespace

const ggml_tensor* root_of(const ggml_tensor* tensor) noexcept {
  while (tensor->view_src != nullptr) tensor = tensor->view_src;
  return tensor;
}

CacheKind cache_kind(const ggml_tensor& root) noexcept {
  const std::string_view name(root.name);
  if (name.starts_with(kKeys)) return CacheKind::k;
  if (name.starts_with(kValues)) return CacheKind::v;
  return CacheKind::none;
}

std::int32_t cache_layer(const ggml_tensor& root) noexcept {
  const std::string_view number = std::string_view(root.name).substr(kKeys.size());
  std::int32_t layer = 0;
  std::from_chars(number.data(), number.data() + number.size(), layer);
  return std::clamp(layer, 0, kMaxCacheLayers - 1);
}

std::int64_t cache_rows(const ggml_tensor& root) noexcept { return ggml_nelements(&root) / root.ne[0]; }

}  // namespace tandem::ggml
