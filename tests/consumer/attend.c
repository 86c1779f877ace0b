/* A C11 engine in miniature: one layer, 300 tokens of random K and V, attention of the last token, checked against a
 * loop. Sinks and the local window hold fewer tokens than that, so most rows come from the host tier. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <tandem/tandem.h>

enum { TOKENS = 300, Q_HEADS = 4, KV_HEADS = 2, DIM = 64 };

static float k[TOKENS][KV_HEADS][DIM], v[TOKENS][KV_HEADS][DIM], q[Q_HEADS][DIM], out[Q_HEADS][DIM], lse[Q_HEADS];

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

static td_tensor tensor(void* data, int64_t tokens, int64_t heads) {
  const td_tensor dense = {data, {tokens, heads, DIM}, {0, 0}, TD_F32, 0};
  return dense;
}

/* Largest difference between the runtime's out and lse of one head and those of two plain loops. */
static double error_of_head(int head) {
  const int kv_head = head / (Q_HEADS / KV_HEADS);
  double exact[DIM] = {0}, sum = 0, worst;
  for (int t = 0; t < TOKENS; ++t) {
    double logit = 0;
    for (int d = 0; d < DIM; ++d) logit += (double)q[head][d] * k[t][kv_head][d];
    const double weight = exp(logit / sqrt(DIM));
    sum += weight;
    for (int d = 0; d < DIM; ++d) exact[d] += weight * v[t][kv_head][d];
  }
  worst = fabs(lse[head] - log(sum));
  for (int d = 0; d < DIM; ++d) worst = fmax(worst, fabs(out[head][d] - exact[d] / sum));
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
  config.sink_tokens = 4;
  config.local_tokens = 64;
  config.num_threads = 2;
  td_rt* rt = NULL;
  td_seq seq = 0;
  if (td_abi_version() != TANDEM_ABI) return 1;
  must(td_create(&config, &rt));
  must(td_seq_create(rt, &seq));

  fill_random(&k[0][0][0], sizeof k / sizeof(float));
  fill_random(&v[0][0][0], sizeof v / sizeof(float));
  fill_random(&q[0][0], sizeof q / sizeof(float));
  const int64_t all_tokens = TOKENS, one_query = 1;
  td_append_args append;
  TD_INIT(append);
  append.num_seqs = 1;
  append.seqs = &seq;
  append.num_tokens = &all_tokens;
  append.k = tensor(k, TOKENS, KV_HEADS);
  append.v = tensor(v, TOKENS, KV_HEADS);
  must(td_append(rt, &append));

  td_attend_args attend;
  TD_INIT(attend);
  attend.parts = TD_PART_ALL;
  attend.num_seqs = 1;
  attend.seqs = &seq;
  attend.num_queries = &one_query;
  attend.q = tensor(q, 1, Q_HEADS);
  attend.out = tensor(out, 1, Q_HEADS);
  attend.lse = lse;
  must(td_attend(rt, &attend));

  double worst = 0;
  for (int head = 0; head < Q_HEADS; ++head) {
    worst = fmax(worst, error_of_head(head));
    printf("head %d: lse %.6f\n", head, (double)lse[head]);
  }
  printf("C, Tandem %s: largest error %.2e\n", td_version(), worst);

  append.k.shape[2] = DIM - 1; /* bad input is refused, with a text, and the runtime goes on */
  if (td_append(rt, &append) != TD_EINVAL || td_last_error()[0] == '\0') return 1;
  must(td_attend(rt, &attend));
  must(td_seq_destroy(rt, seq));
  td_destroy(rt);
  return worst < 1e-5 ? 0 : 1;
}
