#pragma once

#include <cstdint>
#include <vector>

#include "gpu/cuda/device_codec.h"
#include "gpu/cuda/kernels/work.cuh"
#include "gpu/cuda/launch_graph.h"
#include "gpu/cuda/launchers.h"
#include "gpu/cuda/mirror.h"
#include "gpu/device.h"

namespace tandem::gpu::cuda {

/// Tokens of a job that one item of work attends to, at least: few enough that some windows keep a large GPU busy,
/// enough that their partials cost little.
inline constexpr std::int64_t kRowsPerItem = 128;
inline constexpr std::int64_t kCodedPerItem = 256;

/// Tokens of one item of work of a job that has `tokens`, for `vectors` query vectors: `least`, doubled until the job
/// has 512 partials or one of each vector, so that neither long windows nor long chunks need more memory for partials
/// than for a result or two. It decides bits, so it depends on nothing but the window and its queries.
std::int64_t tokens_per_item(std::int64_t least, std::int64_t tokens, std::int64_t vectors) noexcept;

/// What kernels call the rows of a window.
constexpr RowType row_type_of(DType dtype) noexcept {
  return dtype == DType::f16 ? RowType::f16 : dtype == DType::bf16 ? RowType::bf16 : RowType::f32;
}

/// What the attention of a batch of windows consists of: jobs, items, and what they point to. Built on the host, sent
/// with an upload. Buffers grow to the largest batch and then stay. Not thread-safe.
class AttentionPlan {
 public:
  /// Where the results of one window lie in the download. Mass: of recent rows, then of kept ones in the order of
  /// KeptTokens::slots().
  struct Result {
    std::int64_t out, lse, mass;
  };

  /// Plans `count` windows of one shape and one kind of codec, and makes room for what they read and write. Throws
  /// Error(out_of_memory).
  void build(const WindowAttention* batch, std::int64_t count, DeviceCodecs& codecs, Upload& upload,
             Download& download);
  /// Device memory for partials and prepared queries.
  [[nodiscard]] std::int64_t scratch_bytes() const noexcept { return scratch_bytes_; }
  /// Writes the plan into `upload`, after the last add() to either.
  void place(const Upload& upload, const Download& download, std::byte* scratch);
  /// Adds all that the parameters of launch()'s kernels depend on, but for where the upload lies.
  void add_to(LaunchGraph::Key& key) const;
  /// Starts the kernels, after the upload was sent. Throws Error(device_lost).
  void launch(const Upload& upload, cudaStream_t stream) const;

  [[nodiscard]] const Result& result(std::int64_t i) const noexcept { return results_[static_cast<std::size_t>(i)]; }

 private:
  /// Elements [first, ..) of one of the arrays below, or nothing.
  using Index = std::int64_t;
  static constexpr Index kNone = -1;
  struct QueryPlaces {
    Index q, spans, alibi;
  };
  struct RowPlan {
    RowJob job;
    QueryPlaces queries;
    Index pages, kept_pages, kept;
  };
  struct CodedPlan {
    CodedJob job;
    QueryPlaces queries;
    Index pages, prepared;
  };
  struct MergePlan {
    MergeItem item;
    Index own_query, own_entry;
    std::int64_t out, lse;  ///< bytes in the download
  };
  struct MassPlan {
    MassItem item;
    std::int64_t lse, mass;  ///< likewise
  };
  struct Places {
    std::int64_t pages, spans, floats, slots, positions, row_jobs, coded_jobs, row_items, coded_items, merges, masses;
  };
  struct Visible {
    std::int64_t first, end;  ///< positions that at least one of some vectors sees
  };

  void clear();
  void add_window(const WindowAttention& task, DeviceCodecs& codecs, Download& download);
  QueryPlaces add_queries(const WindowAttention& task);
  Index add_floats(const float* values, std::int64_t count);
  Index add_turned(const WindowAttention& task);
  Index add_pages(const SlotTable& table, std::int64_t slots, Slots& target);
  void add_rows(const WindowAttention& task, const QueryPlaces& queries, bool sinks, bool others);
  void add_row_items(const WindowAttention& task, const RowPlan& plan);
  void add_coded(const WindowAttention& task, const QueryPlaces& queries, DeviceCodecs& codecs);
  void add_partial(std::vector<WorkItem>& items, const WindowAttention& task, WorkItem item, std::int32_t vectors);
  void add_merges(const WindowAttention& task, const QueryPlaces& queries, std::int64_t first_partial,
                  const Result& result);
  void add_mass(std::int32_t job, Download& download);
  [[nodiscard]] Visible visible(const WindowAttention& task, const QueryPlaces& queries) const;
  [[nodiscard]] Queries located(Queries queries, const QueryPlaces& places, const Upload& upload) const;

  std::int32_t dim_v_ = 0, padded_dim_ = 0, padded_k_ = 0;
  std::int32_t most_vectors_ = 0, row_vectors_ = 1, coded_vectors_ = 1;  ///< of a window, of items
  RowType row_type_ = RowType::f32;
  const cpu::BlockFormat* format_ = nullptr;  // of the coded jobs: with pointers to device memory
  std::int64_t partial_rows_ = 0, prepared_floats_ = 0, scratch_bytes_ = 0;
  Partials partials_{};
  Places places_{};
  std::vector<RowPlan> row_jobs_;
  std::vector<CodedPlan> coded_jobs_;
  std::vector<WorkItem> row_items_, coded_items_;
  std::vector<MergePlan> merges_;
  std::vector<MassPlan> masses_;
  std::vector<std::byte*> pages_;
  std::vector<QuerySpan> spans_;
  std::vector<float> floats_;
  std::vector<std::int32_t> slots_;
  std::vector<std::int64_t> positions_;
  std::vector<Result> results_;
};

}  // namespace tandem::gpu::cuda
