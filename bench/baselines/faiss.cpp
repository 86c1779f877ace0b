// FAISS as a retriever in front of exact attention: flat inner products, LSH, and product quantisation by fast scan.
#include <algorithm>
#include <cmath>
#include <memory>

#include <faiss/IndexFlat.h>
#include <faiss/IndexLSH.h>
#include <faiss/IndexPQFastScan.h>
#include <faiss/utils/utils.h>
#include <omp.h>

#include "bench/baselines/baselines.h"
#include "cpu/sparse_attention.h"
#include "numa/worker_pool.h"
#include "runtime/base/error.h"
#include "runtime/base/trace.h"

namespace tandem::bench {
namespace {

constexpr double kBudget = 0.02;  // of the host rows, per query head
constexpr std::int64_t kChunk = 4096;

struct IndexKind {
  const char* name;
  std::unique_ptr<faiss::Index> (*make)(std::int32_t dim);
  std::int64_t (*code_bytes)(std::int32_t dim);
};

const IndexKind kKinds[] = {
    {"faiss-flat",
     [](std::int32_t dim) -> std::unique_ptr<faiss::Index> { return std::make_unique<faiss::IndexFlatIP>(dim); },
     [](std::int32_t dim) { return std::int64_t{4} * dim; }},
    {"faiss-lsh",
     [](std::int32_t dim) -> std::unique_ptr<faiss::Index> { return std::make_unique<faiss::IndexLSH>(dim, 128); },
     [](std::int32_t) { return std::int64_t{16}; }},
    {"faiss-pq4",
     [](std::int32_t dim) -> std::unique_ptr<faiss::Index> {
       auto index = std::make_unique<faiss::IndexPQFastScan>(dim, dim / 4, 4, faiss::METRIC_INNER_PRODUCT);
       index->pq.cp.min_points_per_centroid = 1;
       return index;
     },
     [](std::int32_t dim) { return std::int64_t{dim} / 8; }}};

const IndexKind& kind_named(const std::string& name) {
  for (const auto& kind : kKinds)
    if (name == kind.name) return kind;
  fail(ErrorCode::invalid_argument, "baseline ", name, " does not exist");
}

/// One KV head: its rows as the runtime would store them, and a FAISS index of those outside the window.
class FaissHead {
 public:
  FaissHead(const IndexKind& kind, const tools::TraceMeta& meta, const cli::TierOptions& tiers,
            const cpu::RowLayout& layout, cpu::PagePool& pool)
      : meta_(meta),
        group_(meta.num_q_heads / meta.num_kv_heads),
        host_begin_(std::min<std::int64_t>(tiers.sinks, meta.tokens)),
        host_end_(std::max<std::int64_t>(meta.tokens - tiers.local, host_begin_)),
        index_(kind.make(meta.head_dim_k)),
        code_bytes_(kind.code_bytes(meta.head_dim_k)),
        store_(layout, pool) {}

  void append(const tools::Tensor& k, const tools::Tensor& v, std::int64_t head, std::int64_t first,
              std::int64_t count) {
    const auto& layout = store_.layout();
    std::vector<std::byte> row(static_cast<std::size_t>(layout.row_bytes));
    store_.reserve(count);
    for (std::int64_t t = first; t < first + count; ++t) {
      cpu::write_row(layout, k.dtype, row_at(k, head, t), row_at(v, head, t), row.data());
      store_.append(row.data(), 1);
    }
  }

  /// Centred keys: the order of inner products stays, and codes have less to describe.
  void build(const tools::Tensor& k, std::int64_t head) {
    const std::int64_t dim = meta_.head_dim_k;
    const std::int64_t rows = host_end_ - host_begin_;
    if (rows == 0) return;
    std::vector<float> keys(static_cast<std::size_t>(rows * dim));
    load_f32(k.dtype, row_at(k, head, host_begin_), keys.data(), rows * dim);
    std::vector<double> mean(static_cast<std::size_t>(dim), 0.0);
    for (std::size_t i = 0; i < keys.size(); ++i) mean[i % mean.size()] += keys[i] / static_cast<double>(rows);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] -= static_cast<float>(mean[i % mean.size()]);
    index_->train(rows, keys.data());
    index_->add(rows, keys.data());
    mask_.assign(static_cast<std::size_t>(host_end_), 0);
  }

  /// Attention of one step's group into `out` (group, dim_v) and `lse`; q (group, dim) is not yet scaled.
  void attend(const cpu::Kernels& kernels, const float* q, float* out, float* lse) {
    select(q);
    const auto& layout = store_.layout();
    cpu::AlignedVector<float> scaled(static_cast<std::size_t>(group_ * layout.padded_k), 0.f);
    for (std::int64_t i = 0; i < group_ * layout.dim_k; ++i)
      scaled[static_cast<std::size_t>(i / layout.dim_k * layout.padded_k + i % layout.dim_k)] = q[i] * meta_.scale;
    const std::int64_t position = store_.size() - 1;
    variance_.resize(static_cast<std::size_t>(group_));
    cpu::sparse_attention(kernels, store_, 0, selection_, {scaled.data(), &position, 1, group_}, {}, scratch_,
                          {out, lse, group_, layout.dim_v}, {variance_.data()});
  }

  [[nodiscard]] std::int64_t host_rows() const noexcept { return host_end_ - host_begin_; }
  [[nodiscard]] std::int64_t rows_gathered() const noexcept { return gathered_; }
  [[nodiscard]] std::int64_t keys_attended() const noexcept { return attended_; }
  [[nodiscard]] std::int64_t bytes_gathered() const noexcept {
    return std::ssize(selection_.rows) * store_.layout().kv_bytes;
  }
  [[nodiscard]] std::int64_t bytes_read() const noexcept { return host_rows() * code_bytes_ + bytes_gathered(); }
  [[nodiscard]] double select_us() const noexcept { return select_us_; }
  [[nodiscard]] std::int64_t code_bytes() const noexcept { return code_bytes_; }

 private:
  static const std::byte* row_at(const tools::Tensor& t, std::int64_t head, std::int64_t token) {
    return t.data + static_cast<std::size_t>((head * t.shape[1] + token) * t.shape[2]) * bytes_of(t.dtype);
  }

  /// Rows of the window for all heads, and the best of the others for each.
  void select(const float* q) {
    Stopwatch watch;
    omp_set_num_threads(1);  // of this worker; the heads are what runs in parallel
    const auto k = static_cast<std::int64_t>(std::ceil(kBudget * static_cast<double>(host_rows())));
    distances_.resize(static_cast<std::size_t>(group_ * k));
    labels_.resize(distances_.size());
    if (k > 0) index_->search(group_, q, k, distances_.data(), labels_.data());
    for (std::size_t i = 0; i < labels_.size(); ++i) {
      if (labels_[i] >= 0)
        mask_[static_cast<std::size_t>(host_begin_ + labels_[i])] |= std::uint64_t{1}
                                                                     << (static_cast<std::int64_t>(i) / k);
    }
    selection_.clear();
    const std::uint64_t everyone = group_ == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << group_) - 1;
    const auto add = [this](std::int64_t row, std::uint64_t mask) {
      selection_.rows.push_back(static_cast<std::uint32_t>(row));
      selection_.head_mask.push_back(mask);
    };
    for (std::int64_t r = 0; r < host_begin_; ++r) add(r, everyone);
    for (std::int64_t r = host_begin_; r < host_end_; ++r) {
      if (mask_[static_cast<std::size_t>(r)] == 0) continue;
      add(r, mask_[static_cast<std::size_t>(r)]);
      mask_[static_cast<std::size_t>(r)] = 0;
    }
    const std::int64_t window = host_begin_ + store_.size() - host_end_;
    gathered_ = std::ssize(selection_.rows) - host_begin_;
    attended_ = group_ * (k + window);
    for (std::int64_t r = host_end_; r < store_.size(); ++r) add(r, everyone);
    select_us_ = watch.lap_us();
  }

  const tools::TraceMeta& meta_;
  int group_;
  std::int64_t host_begin_, host_end_;
  std::unique_ptr<faiss::Index> index_;
  std::int64_t code_bytes_;
  cpu::KvStore store_;
  std::vector<float> distances_, variance_;
  std::vector<faiss::Index::idx_t> labels_;
  std::vector<std::uint64_t> mask_;
  cpu::Selection selection_;
  cpu::AttentionScratch scratch_;
  std::int64_t gathered_ = 0, attended_ = 0;
  double select_us_ = 0;
};

/// Version and instruction sets: distributions differ, and fast scan without AVX2 is an emulation.
std::string library_name() {
  return concat("FAISS ", FAISS_VERSION_MAJOR, ".", FAISS_VERSION_MINOR, ".", FAISS_VERSION_PATCH, " ",
                faiss::get_compile_options());
}

class FaissSteps {
 public:
  FaissSteps(const IndexKind& kind, int threads, const cli::TierOptions& tiers, const tools::TraceMeta& meta,
             const tools::TraceLayer& trace)
      : meta_(meta),
        trace_(trace),
        topology_(numa::Topology::detect()),
        ledger_(topology_.memory_limit_bytes()),
        layout_(cpu::RowLayout::of(
            resolved({1, meta.num_q_heads, meta.num_kv_heads, meta.head_dim_k, meta.head_dim_v, 0.f, 0.f}),
            DType::bf16)),
        pool_(topology_, 0, layout_.page_bytes(), ledger_),
        workers_(topology_, threads),
        node_of_(static_cast<std::size_t>(meta.num_kv_heads), 0) {
    for (std::int32_t h = 0; h < meta.num_kv_heads; ++h) heads_.emplace_back(kind, meta_, tiers, layout_, pool_);
  }

  void build(cli::Progress& progress) {
    const std::int64_t heads = meta_.num_kv_heads;
    for (std::int64_t first = 0; first < meta_.tokens; first += kChunk) {
      const auto count = std::min(kChunk, meta_.tokens - first);
      for (std::int64_t h = 0; h < heads; ++h) head(h).append(trace_.k, trace_.v, h, first, count);
      progress.advance(count);
    }
    Stopwatch watch;
    for (std::int64_t h = 0; h < heads; ++h) head(h).build(trace_.k, h);
    const auto rows = static_cast<double>(heads * std::max<std::int64_t>(head(0).host_rows(), 1));
    index_ = {static_cast<double>(head(0).code_bytes()), 1000 * watch.lap_us() / rows};
  }

  StepResult step(std::int64_t step) {
    StepResult result;
    const auto q_size = static_cast<std::int64_t>(meta_.num_q_heads) * meta_.head_dim_k;
    std::vector<float> q(static_cast<std::size_t>(q_size));
    for (std::int64_t h = 0; h < meta_.num_q_heads; ++h) {
      const auto offset =
          (h * meta_.steps + step) * meta_.head_dim_k * static_cast<std::int64_t>(bytes_of(trace_.dec_q.dtype));
      load_f32(trace_.dec_q.dtype, trace_.dec_q.data + offset, q.data() + h * meta_.head_dim_k, meta_.head_dim_k);
    }
    result.out.resize(static_cast<std::size_t>(std::int64_t{meta_.num_q_heads} * meta_.head_dim_v));
    result.lse.resize(static_cast<std::size_t>(meta_.num_q_heads));
    const std::int64_t group = meta_.num_q_heads / meta_.num_kv_heads;
    std::vector<double> task_us(heads_.size());
    Stopwatch watch;
    workers_.run(node_of_, [&](std::int64_t h) {
      Stopwatch task;
      head(h).append(trace_.dec_k, trace_.dec_v, h, step, 1);
      head(h).attend(kernels_, q.data() + h * group * meta_.head_dim_k,
                     result.out.data() + h * group * meta_.head_dim_v, result.lse.data() + h * group);
      task_us[static_cast<std::size_t>(h)] = task.lap_us();
    });
    result.us = watch.lap_us();
    add_figures(step, task_us, result);
    return result;
  }

  [[nodiscard]] IndexFigures index() const noexcept { return index_; }

 private:
  FaissHead& head(std::int64_t h) { return heads_[static_cast<std::size_t>(h)]; }

  void add_figures(std::int64_t step, const std::vector<double>& task_us, StepResult& result) {
    double select = 0;
    double all = 0;
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      select += heads_[h].select_us();
      all += task_us[h];
      result.bytes += heads_[h].bytes_read();
      result.scattered_bytes += heads_[h].bytes_gathered();
      result.rows_host += heads_[h].host_rows();
      result.rows_gathered += heads_[h].rows_gathered();
      result.keys_attended += heads_[h].keys_attended();
    }
    result.keys_visible = meta_.num_q_heads * (meta_.tokens + step + 1);
    result.stage_us = {{"select", select}, {"attend", all - select}};
  }

  tools::TraceMeta meta_;
  const tools::TraceLayer& trace_;
  numa::Topology topology_;
  numa::MemoryLedger ledger_;
  cpu::RowLayout layout_;
  cpu::PagePool pool_;
  numa::WorkerPool workers_;
  std::vector<int> node_of_;
  std::vector<FaissHead> heads_;
  const cpu::Kernels& kernels_ = cpu::kernels_for(cpu::choose_isa(std::nullopt));
  IndexFigures index_;
};

}  // namespace

std::vector<std::string> baseline_names() {
  std::vector<std::string> names;
  for (const auto& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

Contender make_baseline(const std::string& name, int threads, const cli::TierOptions& tiers,
                        const tools::TraceMeta& meta, const tools::TraceLayer& trace, cli::Progress& progress) {
  const auto steps = std::make_shared<FaissSteps>(kind_named(name), threads, tiers, meta, trace);
  steps->build(progress);
  Contender contender;
  contender.settings = {{"name", name},
                        {"selector", {{"kind", name}, {"budget", kBudget}, {"library", library_name()}}},
                        {"tokens", meta.tokens},
                        {"threads", threads},
                        {"batch", 1},
                        {"host_dtype", "bf16"}};
  contender.threads = threads;
  contender.step = [steps](std::int64_t step, int) { return steps->step(step); };
  contender.index = steps->index();
  return contender;
}

}  // namespace tandem::bench
