#pragma once

#include <cstdint>
#include <vector>

#include "gpu/cuda/attention_plan.h"
#include "gpu/cuda/kernels/work.cuh"
#include "gpu/cuda/mirror.h"
#include "gpu/device.h"

namespace tandem::gpu::cuda {

/// Rows that a submission, or a piece of it, has at most: its memory is made for them.
inline constexpr std::int64_t kPieceRows = 128;

/// Work that goes to a device together: one copy to it, some kernels, one copy back. It runs in the order moves,
/// encoding, decoding, attention; what does not fit that order, or the memory, belongs to the next submission: the
/// functions that add work then return false and have added nothing. Not thread-safe.
class Submission {
 public:
  /// For rows of at most kMaxKernelDim. Throws Error(out_of_memory).
  Submission();

  [[nodiscard]] bool empty() const noexcept {
    return moves_.empty() && encodes_.empty() && decodes_.empty() && attended_.empty();
  }
  [[nodiscard]] bool attends() const noexcept { return !attended_.empty(); }
  /// At most kPieceRows tokens, all of them rows, read at once.
  bool write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head);
  /// One block of tokens, read at once.
  bool write_block(const WindowView& window, const DeviceCodec& codec, std::int64_t first, const KvView& host_kv,
                   std::int64_t head);
  bool encode_block(const WindowView& window, const DeviceCodec& codec, std::int64_t first);
  bool move(std::byte* target, const std::byte* source, std::int64_t bytes);
  /// At most kPieceRows rows.
  bool read_rows(const WindowView& window, std::int64_t first, std::int64_t count, const cpu::RowLayout& host_layout,
                 std::byte* host_rows);
  /// Tokens of one block.
  bool read_block(const WindowView& window, const DeviceCodec& codec, std::int64_t first, std::int64_t count,
                  const cpu::RowLayout& host_layout, std::byte* host_rows);
  /// Grows `scratch`, which launch() then gets, to what the kernels need. Throws Error(out_of_memory), and what was to
  /// be done before still is.
  bool attend(const WindowAttention* batch, std::int64_t count, DeviceCodecs& codecs, DeviceMemory& scratch);

  /// With `graphs`, as one graph where the last time was alike. Throws Error(device_lost).
  void launch(const DeviceMemory& scratch, bool graphs, cudaStream_t stream);
  /// Hands over what was read and attended, once the device is done, and becomes empty.
  void finish();

 private:
  /// Moves run side by side, so those of a submission are of one kind.
  enum class Moves { none, to_device, within_device, to_host };
  struct Move {
    MoveItem item;
    std::int64_t uploaded, downloaded;  ///< where source, or target, lies in the upload or download; -1: in the item
  };
  struct Written {  ///< positions of one window
    std::byte* const* pages;
    std::int64_t first, next;
  };
  struct Encode {
    EncodeItem item;
    const DeviceCodec* codec;
    std::int64_t uploaded, unpacked;  ///< where k and v lie, in the upload or among unpacked floats; -1: not there
  };
  struct Unpack {
    const std::byte* row;
    std::int64_t k, v;  ///< floats
  };
  struct Decode {
    DecodeItem item;
    const DeviceCodec* codec;
    std::int64_t downloaded;
  };
  struct Read {
    cpu::RowLayout from, to;  ///< from: of f32 rows k, v apart where `is_decoded`
    bool is_decoded;
    std::int64_t downloaded, count;
    std::byte* target;
  };

  [[nodiscard]] bool takes(Moves kind) const noexcept;
  [[nodiscard]] bool fits(std::int64_t uploaded, std::int64_t downloaded) const noexcept;
  [[nodiscard]] bool rewrites(const WindowView& window, std::int64_t first, std::int64_t count) const noexcept;
  void note_written(const WindowView& window, std::int64_t first, std::int64_t count);
  void place_moves(std::int64_t at) const;
  void place_unpacks(std::int64_t at) const;
  void place_encodes(std::int64_t at) const;
  void place_decodes(std::int64_t at) const;
  /// Where the items of a launch lie in the upload.
  struct Places {
    std::int64_t moves, unpacks, encodes, decodes;
  };
  void give(const Places& at, cudaStream_t stream) const;
  void list_parameters(const Places& at, const DeviceMemory& scratch);
  void launch_encodes(std::int64_t at, cudaStream_t stream) const;
  void launch_decodes(std::int64_t at, cudaStream_t stream) const;
  void finish_read(const Read& read);
  void finish_attention(const WindowAttention& task, const AttentionPlan::Result& result);

  Upload upload_;
  Download download_;
  DeviceMemory unpacked_;
  AttentionPlan plan_;
  LaunchGraph graph_;
  LaunchGraph::Key parameters_;
  Moves moves_kind_ = Moves::none;
  std::int64_t unpacked_floats_ = 0;
  cpu::RowLayout unpacked_layout_{};
  std::vector<Move> moves_;
  std::vector<Written> written_;
  std::vector<Unpack> unpacks_;
  std::vector<Encode> encodes_;
  std::vector<Decode> decodes_;
  std::vector<Read> reads_;
  std::vector<WindowAttention> attended_;
};

}  // namespace tandem::gpu::cuda
