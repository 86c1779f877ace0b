#include "gpu/cuda/submission.h"

#include <algorithm>
#include <cstring>

#include "gpu/cuda/codec_launchers.h"
#include "gpu/cuda/launchers.h"
#include "gpu/window_policy/kept_tokens.h"

namespace tandem::gpu::cuda {
namespace {

// Room for rows, many times the largest piece; the items that describe them come on top.
constexpr std::int64_t kStagedBytes = std::int64_t{1} << 20;
constexpr std::int64_t kItemBytes = kStagedBytes / 2;
constexpr std::int64_t kUnpackedFloats = kStagedBytes / 4;

constexpr std::int64_t bytes_of_floats(std::int64_t count) noexcept {
  return count * static_cast<std::int64_t>(sizeof(float));
}

template <typename Item, typename T>
std::int64_t room_for(Upload& upload, const std::vector<T>& values) {
  return upload.add(static_cast<std::int64_t>(values.size() * sizeof(Item)));
}

template <typename T>
std::int64_t size_of(const std::vector<T>& values) {
  return static_cast<std::int64_t>(values.size());
}

bool overlap(const std::byte* a, std::int64_t a_bytes, const std::byte* b, std::int64_t b_bytes) noexcept {
  return a < b + b_bytes && b < a + a_bytes;
}

}  // namespace

Submission::Submission() : unpacked_(bytes_of_floats(kUnpackedFloats)) {
  upload_.settle(kStagedBytes + kItemBytes);
  download_.settle(kStagedBytes);
}

bool Submission::takes(Moves kind) const noexcept {
  const bool later_work = !encodes_.empty() || !decodes_.empty() || !attended_.empty();
  return !later_work && (moves_kind_ == Moves::none || moves_kind_ == kind);
}

bool Submission::fits(std::int64_t uploaded, std::int64_t downloaded) const noexcept {
  return upload_.bytes() + uploaded <= kStagedBytes && download_.bytes() + downloaded <= kStagedBytes &&
         size_of(moves_) < kItemBytes / 4 / static_cast<std::int64_t>(sizeof(MoveItem));
}

/// Whether a slot that is to be written already is. Positions of a window come in order, but for a cut.
bool Submission::rewrites(const WindowView& window, std::int64_t first, std::int64_t count) const noexcept {
  return std::any_of(written_.begin(), written_.end(), [&](const Written& written) {
    return written.pages == window.rows.pages && (written.next != first || first + count - written.first > window.ring);
  });
}

void Submission::note_written(const WindowView& window, std::int64_t first, std::int64_t count) {
  for (Written& written : written_) {
    if (written.pages != window.rows.pages) continue;
    written.next = first + count;
    return;
  }
  written_.push_back({window.rows.pages, first, first + count});
}

bool Submission::write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head) {
  const std::int64_t tokens = host_kv.k.tokens, row_bytes = window.layout.row_bytes;
  if (!takes(Moves::to_device) || !fits(tokens * row_bytes, 0) || rewrites(window, first, tokens)) return false;
  moves_kind_ = Moves::to_device;
  note_written(window, first, tokens);
  const std::int64_t staged = upload_.add(tokens * row_bytes);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t offset = staged + t * row_bytes;
    cpu::write_row(window.layout, host_kv.k.dtype, host_kv.k.row(t, head), host_kv.v.row(t, head),
                   upload_.host(offset));
    moves_.push_back({{window.row(first + t), nullptr, row_bytes}, offset, -1});
  }
  return true;
}

bool Submission::write_block(const WindowView& window, const DeviceCodec& codec, std::int64_t first,
                             const KvView& host_kv, std::int64_t head) {
  const std::int64_t padded_k = window.layout.padded_k, padded_v = window.layout.padded_v;
  const std::int64_t rows = codec.format.block_rows, bytes = bytes_of_floats(rows * (padded_k + padded_v));
  if (!decodes_.empty() || !attended_.empty() || !fits(bytes, 0)) return false;
  const std::int64_t staged = upload_.add(bytes);
  auto* k = upload_.host<float>(staged);
  float* v = k + rows * padded_k;
  std::fill(k, v + rows * padded_v, 0.f);
  for (std::int64_t t = 0; t < rows; ++t) {
    load_f32(host_kv.k.dtype, host_kv.k.row(t, head), k + t * padded_k, window.layout.dim_k);
    load_f32(host_kv.v.dtype, host_kv.v.row(t, head), v + t * padded_v, window.layout.dim_v);
  }
  encodes_.push_back({{nullptr, nullptr, first, window.block(first)}, &codec, staged, -1});
  return true;
}

bool Submission::encode_block(const WindowView& window, const DeviceCodec& codec, std::int64_t first) {
  const std::int64_t padded_k = window.layout.padded_k, padded_v = window.layout.padded_v;
  const std::int64_t rows = codec.format.block_rows, floats = rows * (padded_k + padded_v);
  if (!decodes_.empty() || !attended_.empty() || unpacked_floats_ + floats > kUnpackedFloats) return false;
  const std::int64_t k = unpacked_floats_, v = k + rows * padded_k;
  unpacked_layout_ = window.layout;
  for (std::int64_t t = 0; t < rows; ++t)
    unpacks_.push_back({window.row(first + t), k + t * padded_k, v + t * padded_v});
  encodes_.push_back({{nullptr, nullptr, first, window.block(first)}, &codec, -1, k});
  unpacked_floats_ += floats;
  return true;
}

bool Submission::move(std::byte* target, const std::byte* source, std::int64_t bytes) {
  if (!takes(Moves::within_device) || !fits(0, 0)) return false;
  for (const Move& other : moves_) {
    if (overlap(other.item.target, other.item.bytes, source, bytes) ||
        overlap(other.item.target, other.item.bytes, target, bytes) ||
        overlap(other.item.source, other.item.bytes, target, bytes)) {
      return false;
    }
  }
  moves_kind_ = Moves::within_device;
  moves_.push_back({{target, source, bytes}, -1, -1});
  return true;
}

bool Submission::read_rows(const WindowView& window, std::int64_t first, std::int64_t count,
                           const cpu::RowLayout& host_layout, std::byte* host_rows) {
  const std::int64_t row_bytes = window.layout.row_bytes;
  if (!takes(Moves::to_host) || !fits(0, count * row_bytes)) return false;
  moves_kind_ = Moves::to_host;
  const std::int64_t offset = download_.add(count * row_bytes);
  for (std::int64_t t = 0; t < count; ++t)
    moves_.push_back({{nullptr, window.row(first + t), row_bytes}, -1, offset + t * row_bytes});
  reads_.push_back({window.layout, host_layout, false, offset, count, host_rows});
  return true;
}

bool Submission::read_block(const WindowView& window, const DeviceCodec& codec, std::int64_t first, std::int64_t count,
                            const cpu::RowLayout& host_layout, std::byte* host_rows) {
  const std::int64_t bytes = bytes_of_floats(count * (window.layout.padded_k + window.layout.padded_v));
  if (!attended_.empty() || !fits(0, bytes)) return false;
  const std::int64_t begin = window.block_begin(first), offset = download_.add(bytes);
  decodes_.push_back({{window.block(first), begin, static_cast<std::int32_t>(first - begin),
                       static_cast<std::int32_t>(count), nullptr, nullptr},
                      &codec,
                      offset});
  reads_.push_back({window.layout, host_layout, true, offset, count, host_rows});
  return true;
}

bool Submission::attend(const WindowAttention* batch, std::int64_t count, DeviceCodecs& codecs, DeviceMemory& scratch) {
  if (!attended_.empty()) return false;
  const std::int64_t uploaded = upload_.bytes(), downloaded = download_.bytes();
  try {
    attended_.reserve(static_cast<std::size_t>(count));
    plan_.build(batch, count, codecs, upload_, download_);
    upload_.settle(kItemBytes);
    download_.settle();
    if (plan_.scratch_bytes() > scratch.bytes()) scratch = DeviceMemory(plan_.scratch_bytes());
  } catch (...) {
    upload_.shrink(uploaded);
    download_.shrink(downloaded);
    throw;
  }
  attended_.assign(batch, batch + count);
  return true;
}

void Submission::place_moves(std::int64_t at) const {
  auto* item = upload_.host<MoveItem>(at);
  for (const Move& move : moves_) {
    *item = move.item;
    if (move.uploaded >= 0) item->source = upload_.device(move.uploaded);
    if (move.downloaded >= 0) item->target = download_.device(move.downloaded);
    ++item;
  }
}

void Submission::place_unpacks(std::int64_t at) const {
  auto* item = upload_.host<UnpackItem>(at);
  auto* floats = reinterpret_cast<float*>(unpacked_.data());
  for (const Unpack& unpack : unpacks_) *item++ = {unpack.row, floats + unpack.k, floats + unpack.v};
}

void Submission::place_encodes(std::int64_t at) const {
  auto* item = upload_.host<EncodeItem>(at);
  for (const Encode& encode : encodes_) {
    const cpu::BlockFormat& format = encode.codec->format;
    *item = encode.item;
    item->k = encode.uploaded >= 0 ? upload_.device<float>(encode.uploaded)
                                   : reinterpret_cast<const float*>(unpacked_.data()) + encode.unpacked;
    item->v = item->k + std::int64_t{format.block_rows} * format.padded_k;
    ++item;
  }
}

void Submission::place_decodes(std::int64_t at) const {
  auto* item = upload_.host<DecodeItem>(at);
  for (const Decode& decode : decodes_) {
    *item = decode.item;
    item->k = download_.device<float>(decode.downloaded);
    item->v = item->k + std::int64_t{decode.item.count} * decode.codec->format.padded_k;
    ++item;
  }
}

/// Those of one codec together.
void Submission::launch_encodes(std::int64_t at, cudaStream_t stream) const {
  for (std::size_t first = 0, next = 0; first < encodes_.size(); first = next) {
    while (next < encodes_.size() && encodes_[next].codec == encodes_[first].codec) ++next;
    launch_encode(encodes_[first].codec->format, upload_.device<EncodeItem>(at) + first,
                  static_cast<std::int64_t>(next - first), stream);
  }
}

void Submission::launch_decodes(std::int64_t at, cudaStream_t stream) const {
  for (std::size_t first = 0, next = 0; first < decodes_.size(); first = next) {
    while (next < decodes_.size() && decodes_[next].codec == decodes_[first].codec) ++next;
    launch_decode(decodes_[first].codec->format, upload_.device<DecodeItem>(at) + first,
                  static_cast<std::int64_t>(next - first), stream);
  }
}

/// All that what give() launches depends on.
void Submission::list_parameters(const Places& at, const DeviceMemory& scratch) {
  LaunchGraph::Key& key = parameters_;
  const auto address = [](const void* pointer) { return reinterpret_cast<std::intptr_t>(pointer); };
  key.assign({address(upload_.host(0)),
              address(upload_.device(0)),
              upload_.bytes(),
              address(download_.host(0)),
              address(download_.device(0)),
              download_.bytes(),
              address(unpacked_.data()),
              address(scratch.data()),
              at.moves,
              at.unpacks,
              at.encodes,
              at.decodes,
              size_of(moves_),
              size_of(unpacks_),
              size_of(encodes_),
              size_of(decodes_),
              static_cast<std::int64_t>(unpacked_layout_.dtype),
              unpacked_layout_.padded_k,
              unpacked_layout_.padded_v,
              unpacked_layout_.v_offset});
  for (const Encode& encode : encodes_) key.push_back(address(encode.codec));
  for (const Decode& decode : decodes_) key.push_back(address(decode.codec));
  key.push_back(size_of(attended_));
  if (!attended_.empty()) plan_.add_to(key);
}

void Submission::give(const Places& at, cudaStream_t stream) const {
  upload_.send(stream);
  launch_move_runs(upload_.device<MoveItem>(at.moves), size_of(moves_), stream);
  launch_unpack_rows(row_type_of(unpacked_layout_.dtype), upload_.device<UnpackItem>(at.unpacks), size_of(unpacks_),
                     unpacked_layout_.padded_k, unpacked_layout_.padded_v,
                     static_cast<std::int32_t>(unpacked_layout_.v_offset), stream);
  launch_encodes(at.encodes, stream);
  launch_decodes(at.decodes, stream);
  if (!attended_.empty()) plan_.launch(upload_, stream);
  download_.fetch(stream);
}

void Submission::launch(const DeviceMemory& scratch, bool graphs, cudaStream_t stream) {
  const Places at{room_for<MoveItem>(upload_, moves_), room_for<UnpackItem>(upload_, unpacks_),
                  room_for<EncodeItem>(upload_, encodes_), room_for<DecodeItem>(upload_, decodes_)};
  upload_.settle();
  place_moves(at.moves);
  place_unpacks(at.unpacks);
  place_encodes(at.encodes);
  place_decodes(at.decodes);
  if (!attended_.empty()) plan_.place(upload_, download_, scratch.data());
  if (!graphs || !upload_.pinned() || !download_.pinned()) return give(at, stream);  // pageable copies are no nodes
  list_parameters(at, scratch);
  graph_.run(parameters_, stream, [&](cudaStream_t given) { give(at, given); });
}

void Submission::finish_read(const Read& read) {
  const std::int64_t padded_k = read.from.padded_k, padded_v = read.from.padded_v;
  for (std::int64_t t = 0; t < read.count; ++t) {
    std::byte* target = read.target + t * read.to.row_bytes;
    if (!read.is_decoded) {
      cpu::convert_row(read.from, download_.host(read.downloaded + t * read.from.row_bytes), read.to, target);
      continue;
    }
    const std::byte* k = download_.host(read.downloaded);
    const std::byte* v = k + bytes_of_floats(read.count * padded_k);
    cpu::write_row(read.to, DType::f32, k + bytes_of_floats(t * padded_k), v + bytes_of_floats(t * padded_v), target);
  }
}

void Submission::finish_attention(const WindowAttention& task, const AttentionPlan::Result& result) {
  const PartialAttention target = task.result;
  std::memcpy(target.out, download_.host(result.out),
              static_cast<std::size_t>(bytes_of_floats(target.rows * target.dim)));
  std::memcpy(target.lse, download_.host(result.lse), static_cast<std::size_t>(bytes_of_floats(target.rows)));
  if (task.mass.raw == nullptr) return;
  const auto* mass = download_.host<float>(result.mass);
  const WindowView& window = task.window;
  for (std::int64_t p = std::max(window.raw_begin, window.sinks); p < window.end; ++p)
    task.mass.raw[p - window.raw_begin] += *mass++;
  if (window.kept == nullptr) return;
  for (const std::int32_t slot : window.kept->slots()) task.mass.kept[slot] += *mass++;
}

void Submission::finish() {
  for (const Read& read : reads_) finish_read(read);
  for (std::size_t i = 0; i < attended_.size(); ++i)
    finish_attention(attended_[i], plan_.result(static_cast<std::int64_t>(i)));
  upload_.clear();
  download_.clear();
  moves_kind_ = Moves::none;
  unpacked_floats_ = 0;
  moves_.clear();
  written_.clear();
  unpacks_.clear();
  encodes_.clear();
  decodes_.clear();
  reads_.clear();
  attended_.clear();
}

}  // namespace tandem::gpu::cuda
