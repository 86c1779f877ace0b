#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "runtime/base/error.h"
#include "tools/formats/safetensors.h"
#include "tools/formats/safetensors_format.h"

namespace tandem::tools {
namespace {

constexpr std::size_t kHeaderAlignment = 8;

struct Named {
  const std::string* name;
  const Tensor* tensor;
  std::int64_t bytes;
};

/// Wide elements first, so that every tensor is aligned without gaps.
std::vector<Named> in_file_order(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors) {
  std::vector<Named> order;
  for (const auto& [name, tensor] : tensors) {
    TANDEM_CHECK(name != kMetadataKey, io, path.string(), ": a tensor cannot be named ", kMetadataKey);
    const bool sizes = std::all_of(tensor.shape.begin(), tensor.shape.end(), [](std::int64_t n) { return n >= 0; });
    TANDEM_CHECK(sizes, io, path.string(), ": tensor '", name, "' has a negative size");
    TANDEM_CHECK(tensor.data != nullptr || tensor.elements() == 0, io, path.string(), ": tensor '", name,
                 "' has no data");
    order.push_back({&name, &tensor, tensor.elements() * static_cast<std::int64_t>(bytes_of(tensor.dtype))});
  }
  std::stable_sort(order.begin(), order.end(), [](const Named& a, const Named& b) {
    return bytes_of(a.tensor->dtype) > bytes_of(b.tensor->dtype);
  });
  return order;
}

std::string header_text(const std::filesystem::path& path, const std::vector<Named>& order,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  std::int64_t offset = 0;
  for (const auto& [name, tensor, bytes] : order) {
    header[*name] = {
        {"dtype", name_in_file(tensor->dtype)}, {"shape", tensor->shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  try {
    std::string text = header.dump();
    text.append((kHeaderAlignment - text.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
    return text;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::io, path.string(), ": names and metadata must be UTF-8: ", error.what());
  }
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::vector<Named> order = in_file_order(path, tensors);
  const std::string header = header_text(path, order, metadata);
  std::filesystem::path temporary = path;
  temporary += concat(".tmp", ::getpid());
  errno = 0;
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  TANDEM_CHECK(file.is_open(), io, path.string(), ": cannot be written: ", std::strerror(errno));
  const std::uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof(length));
  file << header;
  for (const auto& [name, tensor, bytes] : order) file.write(reinterpret_cast<const char*>(tensor->data), bytes);
  file.flush();
  std::error_code error(errno, std::generic_category());
  file.close();
  if (file.good()) std::filesystem::rename(temporary, path, error);  // sets it
  if (!file.good() || error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    fail(ErrorCode::io, path.string(), ": cannot be written: ", error.message());
  }
}

}  // namespace tandem::tools
