#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/dtype.h"

namespace tandem::tools {

/// One tensor of a file, row-major. `data` is aligned to the elements and lives as long as the SafetensorsFile.
struct Tensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;

  [[nodiscard]] std::int64_t elements() const noexcept;
  [[nodiscard]] std::vector<float> to_f32() const;
};

/// What a safetensors file held when it was opened: all of its tensors, read into memory and not mapped, because a file
/// that is cut short while it is mapped ends the process. Format: https://github.com/huggingface/safetensors (header
/// length as u64, JSON header, data). Only F32, F16 and BF16 tensors are accepted. Move-only.
class SafetensorsFile {
 public:
  /// Throws Error(io) naming the file and the fault: missing, header not JSON, offsets that overlap or do not match
  /// shape x dtype, unknown dtype; shorter than its header says, with the tensor, the bytes wanted and those there.
  static SafetensorsFile open(const std::filesystem::path& path);

  /// Throws Error(io) naming the file, the tensor and the names that exist.
  [[nodiscard]] const Tensor& at(const std::string& name) const;
  /// As at(), and checks the shape.
  [[nodiscard]] const Tensor& at(const std::string& name, const std::vector<std::int64_t>& shape) const;
  [[nodiscard]] bool contains(const std::string& name) const { return tensors_.contains(name); }
  [[nodiscard]] const std::map<std::string, Tensor>& tensors() const noexcept { return tensors_; }

 private:
  SafetensorsFile() = default;
  std::vector<std::unique_ptr<std::byte[]>> data_;  // of each tensor
  std::filesystem::path path_;
  std::map<std::string, Tensor> tensors_;
};

/// Writes `tensors` to `path` whole or not at all (a temporary file, then a rename). Throws Error(io).
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace tandem::tools
