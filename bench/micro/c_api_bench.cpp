// What the C interface adds to a call: the smallest step that there is, through it and without it. The difference is
// the reading and checking of structs.
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "runtime/c_api_handle.h"

namespace tandem::bench {
namespace {

constexpr int kDim = 16, kTokens = 8;

/// One layer, one head, eight tokens in the window.
struct SmallestStep {
  SmallestStep() {
    td_config config;
    TD_INIT(config);
    config.abi = TANDEM_ABI;
    config.num_layers = config.num_q_heads = config.num_kv_heads = 1;
    config.head_dim_k = kDim;
    config.local_tokens = 64;
    config.num_threads = 1;
    if (td_create(&config, &rt) != TD_OK || td_seq_create(rt, &seq) != TD_OK) std::abort();
    const std::int64_t tokens = kTokens;
    td_append_args append;
    TD_INIT(append);
    append.num_seqs = 1;
    append.seqs = &seq;
    append.num_tokens = &tokens;
    append.k = append.v = {kv.data(), {kTokens, 1, kDim}, {0, 0}, TD_F32, TD_MEMORY_HOST};
    if (td_append(rt, &append) != TD_OK) std::abort();
    TD_INIT(stats);
  }
  SmallestStep(const SmallestStep&) = delete;
  SmallestStep& operator=(const SmallestStep&) = delete;
  ~SmallestStep() { td_destroy(rt); }

  td_rt* rt = nullptr;
  td_seq seq = 0;
  std::int64_t one = 1;
  std::vector<float> kv = std::vector<float>(kTokens * kDim, 0.5f), q = std::vector<float>(kDim, 0.25f), out = q;
  td_stats stats;
};

void attend_by_c_interface(benchmark::State& state) {
  SmallestStep step;
  td_attend_args args;
  TD_INIT(args);
  args.parts = TD_PART_ALL;
  args.num_seqs = 1;
  args.seqs = &step.seq;
  args.num_queries = &step.one;
  args.q = {step.q.data(), {1, 1, kDim}, {0, 0}, TD_F32, TD_MEMORY_HOST};
  args.out = {step.out.data(), {1, 1, kDim}, {0, 0}, TD_F32, TD_MEMORY_HOST};
  args.stats = &step.stats;
  for (auto _ : state) {
    if (td_attend(step.rt, &args) != TD_OK) std::abort();
  }
}
BENCHMARK(attend_by_c_interface);

void attend_without_it(benchmark::State& state) {
  SmallestStep step;
  AttendRequest request;
  request.sequences = {&step.seq, 1};
  request.num_queries = {&step.one, 1};
  request.q = dense_view(std::as_const(step.q).data(), DType::f32, 1, 1, kDim);
  request.out = dense_view(step.out.data(), DType::f32, 1, 1, kDim);
  for (auto _ : state) benchmark::DoNotOptimize(step.rt->runtime.attend(request));
}
BENCHMARK(attend_without_it);

}  // namespace
}  // namespace tandem::bench
