#include "gpu/cuda/device_codec.h"

#include <algorithm>
#include <utility>

#include "gpu/cuda/cuda_error.h"

namespace tandem::gpu::cuda {
namespace {

/// Same codes and same tables.
bool same(const cpu::BlockFormat& a, const cpu::BlockFormat& b) noexcept {
  return a.kind == b.kind && a.bits == b.bits && a.group == b.group && a.dim_k == b.dim_k && a.dim_v == b.dim_v &&
         a.sketch_bits == b.sketch_bits && a.outliers == b.outliers && a.projection == b.projection &&
         a.levels_k == b.levels_k && a.levels_v == b.levels_v && a.channel_scale == b.channel_scale && a.rope == b.rope;
}

/// Tables one after the other, and where they go.
class Tables {
 public:
  /// Copies `count` elements that `pointer` points to, and makes it point to the copy. Null stays null.
  template <typename T>
  void add(const T*& pointer, std::size_t count) {
    if (pointer == nullptr) return;
    const auto offset = bytes_.size();
    const auto* begin = reinterpret_cast<const std::byte*>(pointer);
    bytes_.insert(bytes_.end(), begin, begin + count * sizeof(T));
    bytes_.resize((bytes_.size() + 63) / 64 * 64);
    moved_.emplace_back(reinterpret_cast<const std::byte**>(&pointer), offset);
  }
  void relocate(const std::byte* base) const {
    for (const auto& [pointer, offset] : moved_) *pointer = base + offset;
  }
  [[nodiscard]] const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  std::vector<std::pair<const std::byte**, std::size_t>> moved_;
};

void upload(std::byte* target, const void* source, std::size_t bytes, cudaStream_t stream) {
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, stream));
}

}  // namespace

const DeviceCodec& DeviceCodecs::of(const cpu::BlockCodec& codec) {
  const auto known = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const auto& entry) { return same(entry->codec.format(), codec.format()); });
  if (known != entries_.end()) return (*known)->device;
  auto entry = std::make_unique<Entry>();
  entry->codec = codec;
  cpu::BlockFormat& format = entry->device.format;
  format = codec.format();
  const auto padded_k = static_cast<std::size_t>(format.padded_k);
  Tables tables;
  tables.add(format.projection, padded_k * static_cast<std::size_t>(format.sketch_bits));
  tables.add(format.levels_k, padded_k * cpu::kNuqLevels);
  tables.add(format.levels_v, cpu::kNuqLevels);
  tables.add(format.channel_scale, padded_k);
  tables.add(format.channel_offset, padded_k);
  tables.add(format.rope_turns, padded_k / 2);
  format.rope = nullptr;
  const std::size_t table_bytes = tables.bytes().size();
  entry->memory = DeviceMemory(static_cast<std::int64_t>(table_bytes + sizeof(cpu::BlockFormat)));
  tables.relocate(entry->memory.data());
  entry->tables = tables.bytes();  // the copy may read them later
  upload(entry->memory.data(), entry->tables.data(), table_bytes, stream_);
  upload(entry->memory.data() + table_bytes, &format, sizeof(format), stream_);
  entry->device.on_device = reinterpret_cast<const cpu::BlockFormat*>(entry->memory.data() + table_bytes);
  entries_.push_back(std::move(entry));
  return entries_.back()->device;
}

}  // namespace tandem::gpu::cuda
