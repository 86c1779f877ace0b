#include "gpu/cuda/key_coding_lane.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "gpu/cuda/coding_launchers.h"
#include "gpu/cuda/launchers.h"

namespace tandem::gpu::cuda {
namespace {

constexpr std::int64_t kScaleBytes = 16;  // behind K of a quantized row, what keeps rows aligned

KeyType key_type_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32:
      return KeyType::f32;
    case DType::f16:
      return KeyType::f16;
    case DType::bf16:
      return KeyType::bf16;
    case DType::int8:
    case DType::k8v4:
    case DType::q8_0:
    case DType::q4_0:
      break;
  }
  return KeyType::int8;
}

std::int64_t key_bytes(const cpu::RowLayout& layout) noexcept {
  const auto element = static_cast<std::int64_t>(bytes_of(layout.dtype));
  return layout.padded_k * element + (is_quantized(layout.dtype) ? kScaleBytes : 0);
}

/// Bytes of a block of codes.
std::int64_t block_bytes(const cpu::KeyCoding& coding) noexcept {
  if (const auto* sketch = std::get_if<cpu::SketchTables>(&coding.tables)) return sketch->format->block_bytes();
  const cpu::SimHash& hash = *std::get<const cpu::SimHash*>(coding.tables);
  return hash.num_tables() * cpu::kCodedBlockRows * static_cast<std::int64_t>(sizeof(std::uint16_t));
}

bool same_owner(const std::weak_ptr<const void>& a, const std::weak_ptr<const void>& b) noexcept {
  const std::weak_ptr<const void> none;
  const bool is_known = none.owner_before(a) || a.owner_before(none);
  return is_known && !a.owner_before(b) && !b.owner_before(a);
}

constexpr std::int64_t bytes_of_floats(std::int64_t count) noexcept {
  return count * static_cast<std::int64_t>(sizeof(float));
}

/// Room for `count` values, which are copied there.
template <typename T>
std::int64_t add_values(Upload& upload, const T* values, std::int64_t count) {
  const auto bytes = count * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t place = upload.add(bytes);
  std::memcpy(upload.host(place), values, static_cast<std::size_t>(bytes));
  return place;
}

/// Where each bit of a code comes from, in the order that SketchFormat states.
std::vector<std::uint16_t> bits_of(const cpu::SketchFormat& format) {
  std::vector<std::uint16_t> bits;
  int first = 0;
  for (const cpu::BitGroup& group : format.groups) {
    for (int plane = group.bits - 1; plane >= 0; --plane) {
      for (int i = 0; i < group.dims; ++i) bits.push_back(sketch_bit(first + i, plane));
    }
    first += group.dims;
  }
  return bits;
}

}  // namespace

bool can_code(const cpu::KeyCoding& coding) noexcept {
  if (coding.store->layout().padded_k > kMaxKernelDim) return false;
  const auto* sketch = std::get_if<cpu::SketchTables>(&coding.tables);
  return sketch == nullptr || sketch->format->padded_dims <= kMaxKernelDim;
}

void KeyCodingLane::load_sketch(const cpu::SketchTables& tables) {
  const cpu::SketchFormat& format = *tables.format;
  const std::int64_t dims = format.padded_dims, padded_k = coding_->store->layout().padded_k;
  const std::vector<std::uint16_t> bits = bits_of(format);
  const std::int64_t inverse_steps = add_values(tables_, format.inverse_steps.data(), dims),
                     steps = add_values(tables_, format.steps.data(), dims),
                     levels = add_values(tables_, format.levels.data(), dims),
                     sources = add_values(tables_, bits.data(), static_cast<std::int64_t>(bits.size())),
                     planes = add_values(tables_, tables.planes, padded_k * dims);
  tables_.settle();
  sketch_ = {tables_.device<float>(planes),
             tables_.device<float>(inverse_steps),
             tables_.device<float>(steps),
             tables_.device<float>(levels),
             tables_.device<std::uint16_t>(sources),
             1.f / format.factor_scale,
             format.padded_dims,
             format.code_bytes};
}

void KeyCodingLane::load_hash(const cpu::SimHash& hash) {
  const std::int64_t num_planes = hash.block() == 0 ? std::int64_t{hash.padded_dim()} * hash.num_bits()
                                                    : std::int64_t{hash.block()} + hash.num_bits();
  const std::int64_t sampled =
                         add_values(tables_, hash.sampled().data(), static_cast<std::int64_t>(hash.sampled().size())),
                     planes = add_values(tables_, hash.planes(), num_planes);
  tables_.settle();
  hash_ = {tables_.device<float>(planes),
           tables_.device<std::uint16_t>(sampled),
           hash.bits_per_table(),
           hash.num_tables(),
           hash.num_bits(),
           hash.block()};
}

void KeyCodingLane::make_room(Slot& slot, std::int64_t rows) const {
  slot.keys.clear();
  slot.mean = slot.keys.add(bytes_of_floats(coding_->store->layout().padded_k));
  slot.rows = slot.keys.add(rows * key_bytes_);
  slot.keys.settle();
  slot.codes.clear();
  slot.norms = slot.codes.add(bytes_of_floats(coding_->inverse_norms != nullptr ? rows : 0));
  slot.blocks = slot.codes.add((rows + cpu::kCodedBlockRows - 1) / cpu::kCodedBlockRows * block_bytes_);
  slot.codes.settle();
}

void KeyCodingLane::begin(const cpu::KeyCoding& coding, cudaStream_t stream) {
  coding_ = &coding;
  key_bytes_ = key_bytes(coding.store->layout());
  block_bytes_ = block_bytes(coding);
  for (Slot& slot : slots_) make_room(slot, std::min(coding.count, kCodingPieceRows));
  if (same_owner(owner_, coding.owner)) return;
  owner_.reset();
  tables_.clear();
  if (const auto* sketch = std::get_if<cpu::SketchTables>(&coding.tables)) {
    load_sketch(*sketch);
  } else {
    load_hash(*std::get<const cpu::SimHash*>(coding.tables));
  }
  tables_.send(stream);
  owner_ = coding.owner;
}

std::int64_t KeyCodingLane::rows_of(std::int64_t piece) const noexcept {
  return std::min(kCodingPieceRows, coding_->count - piece * kCodingPieceRows);
}

void KeyCodingLane::stage(std::int64_t piece) {
  Slot& target = slots_[static_cast<std::size_t>(piece % kCodingPieces)];
  make_room(target, rows_of(piece));
  std::memcpy(target.keys.host(target.mean), coding_->mean,
              static_cast<std::size_t>(bytes_of_floats(coding_->store->layout().padded_k)));
  std::byte* row = target.keys.host(target.rows);
  const std::int64_t first = coding_->first + piece * kCodingPieceRows, rows = rows_of(piece);
  for (std::int64_t i = 0; i < rows; ++i, row += key_bytes_)
    std::memcpy(row, coding_->store->row(first + i), static_cast<std::size_t>(key_bytes_));
}

void KeyCodingLane::launch(std::int64_t piece, cudaStream_t stream) const {
  const Slot& own = slot(piece);
  const cpu::RowLayout& layout = coding_->store->layout();
  const KeyRows keys{own.keys.device(own.rows),
                     own.keys.device<float>(own.mean),
                     static_cast<std::int32_t>(key_bytes_),
                     static_cast<std::int32_t>(rows_of(piece)),
                     layout.padded_k,
                     key_type_of(layout.dtype)};
  own.keys.send(stream);
  if (std::holds_alternative<cpu::SketchTables>(coding_->tables)) {
    launch_sketch_codes(keys, sketch_, coding_->fused, own.codes.device(own.blocks), stream);
  } else {
    launch_hash_codes(keys, hash_, coding_->fused, own.codes.device<std::uint16_t>(own.blocks),
                      own.codes.device<float>(own.norms), stream);
  }
  own.codes.fetch(stream);
}

void KeyCodingLane::take(std::int64_t piece) const {
  const Slot& source = slot(piece);
  const std::int64_t rows = rows_of(piece), first = piece * kCodingPieceRows;
  const std::byte* block = source.codes.host(source.blocks);
  for (std::int64_t r = 0; r < rows; r += cpu::kCodedBlockRows, block += block_bytes_)
    std::memcpy(coding_->blocks[(first + r) / cpu::kCodedBlockRows], block, static_cast<std::size_t>(block_bytes_));
  if (coding_->inverse_norms != nullptr)
    std::memcpy(coding_->inverse_norms + first, source.codes.host(source.norms),
                static_cast<std::size_t>(bytes_of_floats(rows)));
}

}  // namespace tandem::gpu::cuda
