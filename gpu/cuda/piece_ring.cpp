#include "gpu/cuda/piece_ring.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "gpu/cuda/cuda_error.h"
#include "runtime/base/error.h"

namespace tandem::gpu::cuda {
namespace {

constexpr std::int64_t kRowsOfSplits = std::int64_t{kPrefillSplits} * kPrefillTileRows;
constexpr std::int64_t kPartBytes = std::int64_t{1} << 17;  ///< that a helper copies at a time

/// Sets the bits of those of `left_out` that are in [first, first + count); false where there are none.
bool write_mask(RowList left_out, std::int64_t first, std::int64_t count, std::byte* mask) {
  const auto begin = std::lower_bound(left_out.begin(), left_out.end(), first);
  const auto end = std::lower_bound(begin, left_out.end(), first + count);
  if (begin == end) return false;
  std::memset(mask, 0, PieceRing::kMaskBytes);
  auto* words = reinterpret_cast<std::uint32_t*>(mask);
  for (auto row = begin; row != end; ++row) {
    const std::int64_t index = *row - first;
    words[index / 32] |= std::uint32_t{1} << index % 32;
  }
  return true;
}

}  // namespace

void await(HandOff& hand_off, std::uint64_t epoch, std::chrono::milliseconds timeout, std::atomic<bool>& stuck) {
  if (hand_off.wait(epoch, timeout)) return;
  stuck = true;
  fail(ErrorCode::device_lost, "the device did not reach epoch ", epoch, " within ", timeout.count(),
       " ms (device_timeout_ms): it is at ", hand_off.reached(), ", and the host has given it work up to ",
       hand_off.signalled());
}

PieceRing::PieceRing(HandOffKind kind, std::int64_t piece_bytes, std::byte* on_host, std::byte* on_device)
    : piece_bytes_(piece_bytes), copied_(kind, stream_.get()) {
  for (Slot& slot : slots_) {
    slot.on_host = on_host;
    slot.on_device = on_device;
    on_host += slot_bytes(piece_bytes);
    on_device += slot_bytes(piece_bytes);
  }
}

std::int64_t PieceRing::piece_rows(const cpu::RowLayout& layout) const noexcept {
  return std::clamp(piece_bytes_ / layout.row_bytes / kRowsOfSplits * kRowsOfSplits, kRowsOfSplits, kMostRows);
}

/// Rows of the piece that begins at row `first`, to their places in it: page by page.
void PieceRing::fill(const RowSource& source, std::int64_t first, cpu::RowRange rows, std::byte* target) const {
  const cpu::RowLayout& layout = source.store.layout();
  const std::int64_t first_page = rows.begin / cpu::kPageRows, pages = (rows.end - 1) / cpu::kPageRows + 1 - first_page;
  const std::int64_t pages_per_part = std::max<std::int64_t>(1, kPartBytes / layout.page_bytes());
  source.helpers.split((pages + pages_per_part - 1) / pages_per_part, [&](std::int64_t part) {
    const std::int64_t last_page = first_page + std::min(pages, (part + 1) * pages_per_part);
    for (std::int64_t page = first_page + part * pages_per_part; page < last_page; ++page) {
      const std::int64_t begin = page * cpu::kPageRows, end = std::min(rows.end, begin + cpu::kPageRows);
      std::memcpy(target + (begin - first) * layout.row_bytes, source.store.row(begin),
                  static_cast<std::size_t>((end - begin) * layout.row_bytes));
    }
  });
}

void PieceRing::send_bytes(const Slot& slot, std::int64_t offset, std::int64_t bytes) {
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(slot.on_device + offset, slot.on_host + offset, static_cast<std::size_t>(bytes),
                                    cudaMemcpyHostToDevice, stream_.get()));
  bytes_sent_ += bytes;
}

PrefillRows PieceRing::send(const RowSource& source, std::int64_t piece, cpu::RowRange rows, cudaStream_t reader,
                            std::chrono::milliseconds timeout) {
  Slot& slot = slots_[next_ % slots_.size()];
  const cpu::RowLayout& layout = source.store.layout();
  const std::int64_t piece_rows = this->piece_rows(layout), first = piece * piece_rows;
  assert(piece_rows * layout.row_bytes <= piece_bytes_);
  // From the page's start: kernels take whole tiles.
  rows.begin = std::max(rows.begin, first) / cpu::kPageRows * cpu::kPageRows;
  rows.end = std::min(rows.end, first + piece_rows);
  if (slot.copied > 0) await(copied_, slot.copied, timeout, stuck_);
  fill(source, first, rows, slot.on_host);
  const bool has_mask = write_mask(source.left_out, first, rows.end - first, slot.on_host + piece_bytes_);
  if (slot.was_read) TANDEM_CUDA_CHECK(cudaStreamWaitEvent(stream_.get(), slot.read.get()));
  send_bytes(slot, (rows.begin - first) * layout.row_bytes, (rows.end - rows.begin) * layout.row_bytes);
  if (has_mask) send_bytes(slot, piece_bytes_, kMaskBytes);
  TANDEM_CUDA_CHECK(cudaEventRecord(slot.arrived.get(), stream_.get()));
  slot.copied = copied_.signal();
  TANDEM_CUDA_CHECK(cudaStreamWaitEvent(reader, slot.arrived.get()));
  return {slot.on_device,
          has_mask ? reinterpret_cast<const std::uint32_t*>(slot.on_device + piece_bytes_) : nullptr,
          source.first_position + first,
          static_cast<std::int32_t>(rows.end - first),
          static_cast<std::int32_t>(piece_rows / kPrefillSplits),
          static_cast<std::int32_t>(layout.row_bytes),
          static_cast<std::int32_t>(layout.v_offset),
          layout.padded_k,
          layout.padded_v};
}

void PieceRing::release(cudaStream_t reader) {
  Slot& slot = slots_[next_ % slots_.size()];
  TANDEM_CUDA_CHECK(cudaEventRecord(slot.read.get(), reader));
  slot.was_read = true;
  ++next_;
}

}  // namespace tandem::gpu::cuda
