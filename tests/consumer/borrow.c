/* A C11 engine that keeps K and V itself: cells of one layer, in which two sequences lie interleaved. Each attends to
 * its own cells; both results are checked against a loop. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <tandem/tandem.h>

enum { CELLS = 400, TOKENS = CELLS / 2, Q_HEADS = 4, KV_HEADS = 2, DIM = 64 };

static float k[CELLS][KV_HEADS][DIM], v[CELLS][KV_HEADS][DIM], q[2][Q_HEADS][DIM], out[2][Q_HEADS][DIM];

static void must(td_status status) {
  if (status == TD_OK) return;
  fprintf(stderr, "%s: %s\n", td_status_name(status), td_last_error());
  exit(1);
}

static void fill_random(float* values, size_t count) {
  static unsigned state = 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    values[i] = (float)(state >> 8) / (float)(1u << 23) - 1.f;
  }
}

static td_tensor tensor(void* data, int64_t rows, int64_t heads) {
  const td_tensor dense = {data, {rows, heads, DIM}, {0, 0}, TD_F32, TD_MEMORY_HOST};
  return dense;
}

/* Sequence s has the cells s, s + 2, s + 4, ... */
static double error_of(int s, int head) {
  const int kv_head = head / (Q_HEADS / KV_HEADS);
  double exact[DIM] = {0}, sum = 0, worst = 0;
  for (int cell = s; cell < CELLS; cell += 2) {
    double logit = 0;
    for (int d = 0; d < DIM; ++d) logit += (double)q[s][head][d] * k[cell][kv_head][d];
    const double weight = exp(logit / sqrt(DIM));
    sum += weight;
    for (int d = 0; d < DIM; ++d) exact[d] += weight * v[cell][kv_head][d];
  }
  for (int d = 0; d < DIM; ++d) worst = fmax(worst, fabs(out[s][head][d] - exact[d] / sum));
  return worst;
}

int main(void) {
  td_config config;
  TD_INIT(config);
  config.abi = TANDEM_ABI;
  config.num_layers = 1;
  config.num_q_heads = Q_HEADS;
  config.num_kv_heads = KV_HEADS;
  config.head_dim_k = DIM;
  config.local_tokens = 64;
  config.num_threads = 2;
  td_selector selector;
  TD_INIT(selector);
  selector.kind = TD_SELECT_SKETCH; /* no sequence here is long enough for it: see td_attend_rows */
  config.selector = &selector;
  if (td_abi_version() != TANDEM_ABI) return 1;
  td_rt* rt = NULL;
  must(td_create(&config, &rt));

  fill_random(&k[0][0][0], sizeof(k) / sizeof(float));
  fill_random(&v[0][0][0], sizeof(v) / sizeof(float));
  fill_random(&q[0][0][0], sizeof(q) / sizeof(float));
  td_pool_args pool_args;
  TD_INIT(pool_args);
  pool_args.k = tensor(k, CELLS, KV_HEADS);
  pool_args.v = tensor(v, CELLS, KV_HEADS);
  td_pool pool = 0;
  must(td_pool_bind(rt, &pool_args, &pool));

  /* The mask of an engine: -inf (0xfc00 in f16) hides the cells of the other sequence. */
  static uint16_t mask[2][CELLS];
  for (int s = 0; s < 2; ++s) {
    for (int cell = 0; cell < CELLS; ++cell) mask[s][cell] = cell % 2 == s ? 0 : 0xfc00;
  }
  td_visibility visible;
  TD_INIT(visible);
  visible.kind = TD_VISIBLE_MASK;
  visible.num_queries = 2;
  visible.mask = &mask[0][0];
  visible.num_columns = CELLS;
  td_stats stats;
  TD_INIT(stats);
  td_attend_rows_args args;
  TD_INIT(args);
  args.pool = pool;
  args.visible = &visible;
  args.q = tensor(q, 2, Q_HEADS);
  args.out = tensor(out, 2, Q_HEADS);
  args.stats = &stats;
  for (int step = 0; step < 3; ++step) {
    must(td_attend_rows(rt, &args));
    double worst = 0;
    for (int s = 0; s < 2; ++s) {
      for (int head = 0; head < Q_HEADS; ++head) worst = fmax(worst, error_of(s, head));
    }
    printf("step %d: %lld of %lld keys attended, worst error %.1e\n", step, (long long)stats.keys_attended,
           (long long)stats.keys_visible, worst);
    if (worst > 1e-5) return 1;
    /* The engine writes a cell of each sequence again, and says so. */
    const int64_t written[2] = {10 * step, 10 * step + 1};
    fill_random(&k[written[0]][0][0], 2 * KV_HEADS * DIM);
    must(td_rows_written(rt, pool, written, 2));
  }
  must(td_pool_unbind(rt, pool));
  td_destroy(rt);
  return 0;
}
