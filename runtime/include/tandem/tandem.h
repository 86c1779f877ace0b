/* tandem.h: the C ABI of Tandem, an attention runtime for KV caches larger than a GPU's memory.
 *
 * Plain C11 and C++; no torch, ggml or CUDA header. Every struct that may grow starts with its own size: set it with
 * TD_INIT, and fields added later read as zero, which always means the default. Fields called reserved must be zero.
 *
 * The way of one model step, for each layer in turn:
 *   td_append()  K and V of the new tokens (keys as the model caches them, usually after RoPE)
 *   td_attend()  q of the same tokens -> out (and lse)
 * Prefill is the same two calls with parts = TD_PART_ALL | TD_EXACT and as many tokens at a time as the engine likes.
 *
 * Errors: every call returns a td_status; td_last_error() has the text of this thread's last failure, which names the
 * field, its value and what is allowed. A call that fails with TD_EINVAL, TD_ENOMEM or TD_ESTATE changed nothing.
 * Threads: calls on different sequences may run in parallel, also within one td_rt. Two calls at once on the same
 * sequence are a mistake: the second returns TD_ESTATE. td_create and td_destroy belong to one thread. */
#ifndef TANDEM_H
#define TANDEM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TANDEM_ABI 1 /* layout and meaning of everything below */
#if defined(_WIN32)
#define TD_API
#else
#define TD_API __attribute__((visibility("default")))
#endif

/* Zeroes a struct and sets its size: td_config c; TD_INIT(c); */
#define TD_INIT(s) (memset(&(s), 0, sizeof(s)), (s).size = (uint32_t)sizeof(s))

typedef struct td_rt td_rt; /* a runtime: model shape, threads, memory, device, sequences */
typedef uint64_t td_seq;    /* a sequence of one td_rt; 0 is never valid */

typedef enum {
  TD_OK = 0,
  TD_EINVAL = -1,       /* bad input; nothing changed */
  TD_ENOMEM = -2,       /* the memory ledger or the system refused; nothing changed */
  TD_EUNSUPPORTED = -3, /* valid, but this build or device has no code for it */
  TD_EDEVICE = -4,      /* an accelerator failed; the runtime is closed */
  TD_ESTATE = -5,       /* destroyed or busy sequence, closed runtime */
  TD_EIO = -6,          /* file */
  TD_EINTERNAL = -7     /* a fault of Tandem itself; please report it */
} td_status;

/* Element types of tensors and rows. Only rows of the host tier can be TD_INT8 and TD_K8V4: K in 8 bits and V in 8 or
 * 4, each with a scale per row. They take 5/8 and 1/2 of the memory of TD_BF16 at head_dim 128 and add a relative error
 * of about 0.01 and 0.1 to attention over normal values. Only rows of a td_pool can be TD_Q8_0 and TD_Q4_0, ggml's
 * blocks of 32 elements: a scale in f16, then 32 bytes, or 16 with element i in the low half of byte i, i + 16 in its
 * high half. */
typedef enum { TD_F32 = 0, TD_F16 = 1, TD_BF16 = 2, TD_INT8 = 3, TD_K8V4 = 4, TD_Q8_0 = 5, TD_Q4_0 = 6 } td_dtype;

/* 0 is the default, whatever it is. */
typedef enum { TD_ON = 1, TD_OFF = -1 } td_switch;

/* Where a tensor lies. TD_MEMORY_DEVICE: in the memory of the GPU that is the runtime's device (cudaMalloc, or
 * managed). Such a tensor is used in order with the stream that a call names: an input is what the work makes of it
 * that the stream had been given before the call, and whatever the stream is given after the call sees the results. A
 * call waits for the stream to come to its inputs, as long as that takes, but not for it to take its results, unless
 * these are more than 8 MiB. Addresses and strides are multiples of the element's size. */
typedef enum { TD_MEMORY_HOST = 0, TD_MEMORY_DEVICE = 1 } td_memory;

/* A tensor of shape (tokens, heads, dim). Strides are in bytes; the dim elements of a row are contiguous. */
typedef struct {
  void* data;
  int64_t shape[3];
  int64_t stride[2]; /* of tokens, of heads; both 0: dense */
  int32_t dtype;     /* td_dtype */
  int32_t memory;    /* td_memory */
} td_tensor;

/* ---- which rows of the host tier a step attends to ----------------------------------------------------------------
 */
typedef enum {
  TD_SELECT_ALL = 0,    /* every row: exact */
  TD_SELECT_TOP_K = 1,  /* the budget * rows rows with the highest true logits, per query head */
  TD_SELECT_LSH = 2,    /* SimHash tables as in MagicPIG (arXiv:2410.16179): sampled, weighted by 1 / probability */
  TD_SELECT_SKETCH = 3, /* rows sampled in proportion to the attention that a scan of short codes estimates */
  TD_SELECT_SKETCH_TOP_K = 4 /* the rows for which that scan estimates most; no random numbers, no error estimate */
} td_selector_kind;

/* Where the sign bits of LSH codes come from. */
typedef enum {
  TD_PLANES_HADAMARD =
      0,                 /* signed Hadamard transforms; the tables sample their bits from shared ones. Cheap to build */
  TD_PLANES_GAUSSIAN = 1 /* an independent Gaussian direction per bit and table, as in MagicPIG */
} td_lsh_planes;

/* A budget and an error say how much to select: they must be 0 for a kind that does not name them, and one of them must
 * be 0 for SKETCH. Other fields that a kind does not name are not read. */
typedef struct {
  uint32_t size;
  int32_t kind;               /* td_selector_kind */
  double budget;              /* TOP_K, SKETCH, SKETCH_TOP_K: share of the host rows, in (0, 1]; 0 with SKETCH and
                                 SKETCH_TOP_K: 0.02. At least one row with TOP_K, else 64 */
  int32_t lsh_bits;           /* LSH: K, sign bits per table, 1 to 12; 0: 10 */
  int32_t lsh_tables;         /* LSH: L, 1 to 300; 0: 150 */
  int32_t lsh_min_collisions; /* LSH: tables that must agree before a row is taken, 1 or 2; 0: 2 */
  int32_t lsh_planes;         /* LSH: td_lsh_planes */
  uint64_t seed; /* LSH: the projections are a function of (seed, head_dim, K, L, planes). SKETCH: of the draws; 0: 1 */
  double error;  /* SKETCH, in place of a budget: wanted |out - dense| / |dense|, below 1: rows are gathered until the
                    estimate meets it, and heads whose error cannot be estimated run dense; 0: spend the budget */
  int32_t sketch_bits; /* SKETCH: bits per dimension of a key's code, 1 or 2; 0: 1 for heads where that certifies */
  int32_t unbiased;    /* SKETCH: not 0: plain Horvitz-Thompson, without what trades a bias for less error */
} td_selector;

/* ---- how the older tokens of the window are compressed ------------------------------------------------------------
 */
typedef enum {
  TD_CODEC_NONE = 0,
  TD_CODEC_INT8 = 1, /* 8-bit integers, a scale per token */
  TD_CODEC_FP8 = 2,  /* e4m3, a scale per token */
  TD_CODEC_KIVI = 3, /* 2 or 4 bits: K per channel in groups of tokens, V per token in groups of elements
                        (arXiv:2402.02750) */
  TD_CODEC_QJL = 4,  /* signs of a random projection of K, V in 2 bits (arXiv:2406.03482) */
  TD_CODEC_NUQ = 5   /* calibrated non-uniform levels and outliers, K before RoPE: KVQuant (arXiv:2401.18079). Needs
                        rope_theta and a calibration */
} td_codec_kind;

typedef enum { TD_PROJECTION_ORTHOGONAL = 0, TD_PROJECTION_GAUSSIAN = 1 } td_projection;

/* Fields that a kind does not name are not read. */
typedef struct {
  uint32_t size;
  int32_t kind;            /* td_codec_kind */
  int32_t bits;            /* KIVI: 2 or 4; NUQ: 2, 3 or 4; 0: 4 */
  int32_t group;           /* KIVI: tokens of a K group and elements of a V group: 32, 64 or 128; 0: 32 */
  int32_t sketch_bits;     /* QJL: signs per key, a multiple of 64 up to 1024; 0: 256 */
  int32_t outlier_bits;    /* QJL: signs of the outlier channels, a multiple of 64; 0: sketch_bits */
  int32_t outliers;        /* QJL: outlier channels of 32 tokens, up to 32; 0: 8, -1: none */
  int32_t projection;      /* QJL: td_projection */
  uint64_t seed;           /* QJL: the projection is a function of it; 0: 1 */
  const char* calibration; /* NUQ: path of a file that `tandem calibrate` wrote for this model */
} td_codec;

/* ---- which tokens stay in the window ------------------------------------------------------------------------------
 */
typedef enum {
  TD_POLICY_LATEST = 0,        /* the sinks and the latest tokens (StreamingLLM, arXiv:2309.17453) */
  TD_POLICY_HEAVY_HITTERS = 1, /* and, for each KV head, the older tokens that got most attention (H2O,
                                  arXiv:2306.14048) */
  TD_POLICY_THRESHOLD = 2,     /* and, for each KV head, the older tokens whose score reaches a threshold, as in Dynamic
                                  Memory Sparsification */
  TD_POLICY_DMC = 3 /* the sinks and the latest entries, where a model trained for it merges tokens into entries
                       (Dynamic Memory Compression, arXiv:2403.09636). Entries move to the host tier as tokens do */
} td_policy_kind;

/* HEAVY_HITTERS, THRESHOLD by attention, and DMC need queries to see tokens before these leave the latest ones. A
 * td_append then takes at most local_tokens tokens of a sequence (residual_tokens with a window_codec), and td_attend
 * with TD_PART_STATIC follows before the next. Attention is counted whenever it is computed, so that results depend on
 * how tokens are grouped in calls.
 * DMC: queries belong to the tokens of the sequence's last td_append; td_attend takes no sliding_window and no alibi.
 */

/* Where THRESHOLD's scores come from. */
typedef enum {
  TD_SCORES_ATTENTION =
      0,              /* attention that a token got within the window, summed over queries and heads of the group */
  TD_SCORES_GIVEN = 1 /* td_append_args.keep, by an engine that learned them */
} td_score_source;

/* Where DMC's decisions come from. */
typedef enum {
  TD_DECISIONS_GIVEN = 0,      /* td_append_args.merge and .importance */
  TD_DECISIONS_LAST_NEURON = 1 /* the last elements of k and q before RoPE, which are then zeroed: the form in which
                                  models are retrofitted. td_append_args.q is needed, also before RoPE; k's are zeroed
                                  here, those of td_attend_args.q by the engine, before RoPE and after it */
} td_decision_source;

/* Fields that a kind does not name are not read. */
typedef struct {
  uint32_t size;
  int32_t kind;          /* td_policy_kind */
  int32_t kept_tokens;   /* HEAVY_HITTERS, THRESHOLD: older tokens that a KV head keeps at most; not 0 */
  int32_t page_tokens;   /* HEAVY_HITTERS, THRESHOLD: tokens that leave the latest ones at a time, 1 to 64; 0: 64 */
  int32_t scores;        /* THRESHOLD: td_score_source */
  int32_t decisions;     /* DMC: td_decision_source */
  int32_t merge_window;  /* DMC: the latest tokens of an entry that it averages, 1 to 64; 0: 12 */
  int32_t compact_sinks; /* LATEST, without a host tier: not 0: attention sees the sinks right before the latest tokens,
                            as StreamingLLM does; needs rope_theta */
  int32_t common_length; /* DMC: not 0: the heads of a layer take the memory of the longest (DMC-C) */
  int32_t reserved;
  double threshold; /* THRESHOLD */
} td_window_policy;

/* ---- runtime ------------------------------------------------------------------------------------------------------
 */
typedef struct {
  uint32_t size;
  int32_t abi;                                   /* TANDEM_ABI */
  int32_t num_layers, num_q_heads, num_kv_heads; /* query head h uses KV head h / (num_q_heads / num_kv_heads) */
  int32_t head_dim_k, head_dim_v;                /* head_dim_v 0: head_dim_k */
  float scale;                                   /* logit = scale * <q, k>; 0: 1 / sqrt(head_dim_k) */
  float softcap;                                 /* 0: none */
  int32_t sink_tokens;                           /* window: the first tokens of a sequence, kept for good; 0: none */
  int32_t local_tokens; /* window: at least this many of the latest tokens, up to one page (64, or page_tokens) more,
                           with window_codec less than two (of 64, or KIVI's group if that is larger); not 0 */
  int32_t window_dtype; /* td_dtype of the window's rows that no codec compresses: not TD_INT8, TD_K8V4 */
  int32_t host_dtype;   /* td_dtype of the host tier's rows */
  int32_t num_threads;  /* workers; 0: one per usable core */
  int32_t reserved;
  int64_t max_tokens;        /* longest sequence accepted; 0: 2^31 - 1 */
  int64_t host_memory_bytes; /* limit of the memory ledger; 0: 80 % of what the machine or its cgroup gives */
  const char* isa; /* "scalar", "avx2", "avx512", "avx512vbmi"; NULL: the TANDEM_ISA variable, else the best */
  const td_selector* selector; /* of new sequences; NULL: TD_SELECT_ALL */
  const char* profile;         /* what the parts of a step cost, as JSON: see never_slower; NULL: the built-in one */
  int32_t never_slower;        /* td_switch. On (the default): a query attends to every row that it sees, exactly, where
                                  `profile` predicts that its selector would take longer, as it does in short contexts
                                  and always for TOP_K, which reads every key. The results depend on the profile and,
                                  without auto_split, on nothing that is measured while running. Off: the selector
                                  always selects. */
  int32_t host_tier; /* td_switch. On (the default): what leaves the window moves to host memory. Off: it is lost,
                        as in methods that evict; td_seq_info.dropped_rows says how many */
  const td_codec* window_codec; /* of all local tokens but the latest residual_tokens; NULL: none. Host memory gets the
                                  tokens as they were before */
  int32_t residual_tokens;      /* with window_codec: the latest tokens that stay as they are, at least; a multiple of a
                                   group, less than local_tokens; 0: 128 */
  int32_t rope_dims;            /* elements of q and k that RoPE rotates; 0: all */
  double rope_theta;            /* RoPE's base, for what works on keys before RoPE; 0: unknown */
  int32_t rope_interleaved;     /* not 0: RoPE pairs elements (2 i, 2 i + 1) instead of (i, i + dims / 2) */
  int32_t reserved2;
  const td_window_policy* window_policy; /* NULL: TD_POLICY_LATEST */
  int32_t device_timeout_ms;             /* a device whose work takes longer is given up: TD_EDEVICE; 0: 10,000 */
  int32_t graphs; /* td_switch. On: cuda: what a step launches is replayed as a CUDA graph while its shape stays that of
                     the step before. Off (the default): one launch after the other. The results are the same */
  const char* device;   /* what holds the windows: "host", or "cuda:N", a GPU; NULL: "host" */
  const char* hand_off; /* cuda: how the host learns that the device is done: "flag", the device writes to host memory;
                           "host_call", the driver calls the host; "event", the host asks the driver; NULL: "flag" */
  int32_t auto_split;   /* td_switch. On: what steps take corrects `profile` by one factor, that by which selecting is
                           slower than predicted beside dense attention. One query in 1,024 tokens of a sequence (in 64,
                           until seven of either way have been measured) runs the other way in one layer and is
                           measured, like the query before it, where it sees at least 1,024 host rows. A layer of a
                           sequence takes the factor over in its first step and at each multiple of 1,024 tokens, where
                           it has changed by more than 25 % and decides otherwise; td_set_log hears of it. Results then
                           depend on time. A layer may get an index for it that nothing else needs, which takes memory.
                           For td_attend and the runtime's selector: td_attend_rows, and forks with another selector,
                           keep to the profile. Needs never_slower. Off (the default): nothing is measured */
  int32_t reserved3;
} td_config;

/* A profile is a JSON object of numbers, nanoseconds of one worker for the reference shape (GQA group of 4, head_dim
 * 128, bf16), or what `tandem profile --out` writes, whose "step_costs" are one. Fields that are missing keep their
 * built-in values:
 * {"dense_row_ns": 45, "gathered_row_ns": 110, "scanned_row_1bit_ns": 1.2, "selection_ns": 10000}
 * td_describe() reports all of them. */

TD_API int td_abi_version(void); /* compare with TANDEM_ABI before anything else */
TD_API const char* td_version(void);
TD_API const char* td_last_error(void); /* never NULL; valid until this thread's next failing call */
TD_API const char* td_status_name(td_status);

TD_API td_status td_create(const td_config* config, td_rt** out);
/* The same from JSON: the field names of td_config, dtypes and selector kinds by name ("f16", "lsh"), and "topology":
 * an hwloc synthetic description of the machine to plan for ("node:2 core:4 pu:1"), by default this one.
 * {"num_layers": 4, "num_q_heads": 4, "num_kv_heads": 2, "head_dim_k": 64, "selector": {"kind": "lsh", "lsh_bits": 10}}
 */
TD_API td_status td_create_json(const char* json, td_rt** out);
TD_API void td_destroy(td_rt* rt); /* NULL is allowed; no other call on rt may be running */

/* The resolved configuration, machine, ISA and device as JSON, and where queries select: {"split": {"auto": false,
 * "selecting_over_dense": 1.0, "measured_steps": {"dense": 0, "selected": 0}, "crossover_rows": 2048}}, the fewest host
 * rows for which the runtime's selector does by what has been measured (layers take that over as auto_split says), -1:
 * never. Writes at most `capacity` bytes with the final NUL;
 * *needed gets the size of the whole text with its NUL. buffer may be NULL when capacity is 0. */
TD_API td_status td_describe(const td_rt* rt, char* buffer, size_t capacity, size_t* needed);

/* ---- sequences ----------------------------------------------------------------------------------------------------
 */
TD_API td_status td_seq_create(td_rt* rt, td_seq* out);
TD_API td_status td_seq_destroy(td_rt* rt, td_seq seq);
/* A new sequence that starts as the first num_tokens of src (-1: all), sharing its pages copy-on-write. Every layer of
 * src must hold at least num_tokens. selector NULL: that of src, sharing its index; otherwise the index is built anew.
 */
TD_API td_status td_seq_fork(td_rt* rt, td_seq src, int64_t num_tokens, const td_selector* selector, td_seq* out);
/* Forgets the tokens from num_tokens on, in every layer. The window takes back what it would hold had they never been
 * appended (rows that return from the host tier have been rounded to host_dtype); the index keeps the mean, or the map,
 * of its last calibration and the queries that it has seen. A re-calibration under way (SKETCH) is dropped if it needs
 * rows that are gone. A fork at fewer tokens does the same.
 * Without a host tier, what was lost stays lost: TD_ESTATE for lengths beyond the sinks but before the oldest of the
 * latest tokens that the window holds, and coded tokens that become rows again are what their codes stand for.
 * HEAVY_HITTERS, THRESHOLD: kept tokens that others have replaced are not kept again, and what forgotten queries added
 * to scores stays.
 * DMC: at least the latest 16 tokens can be forgotten, or all; those that were forgotten count among the 16 until as
 * many have been appended again. TD_ESTATE for lengths at which the state of the last entry is no longer known. After a
 * cut, td_append comes before td_attend. */
TD_API td_status td_seq_truncate(td_rt* rt, td_seq seq, int64_t num_tokens);
/* Forgets num_tokens tokens from `first` on, in every layer; the tokens after them move up, with their keys as they
 * are: a model that rotates keys by position has been told positions with a gap. What stays is as if the others had
 * never been appended, but that rows of the host tier have been rounded to host_dtype, and the index of what comes
 * after `first` is built anew. Where all indexed tokens are among these, a sketch is calibrated on queries that come
 * after this call. Every layer must hold as many tokens; needs a host tier and TD_POLICY_LATEST. Takes the memory of
 * the tokens after `first` a second time while it runs. */
TD_API td_status td_seq_evict(td_rt* rt, td_seq seq, int64_t first, int64_t num_tokens);
TD_API td_status td_seq_length(td_rt* rt, td_seq seq, int32_t layer, int64_t* out);

typedef struct {
  uint32_t size;
  int32_t reserved;
  int64_t length;         /* tokens in this layer */
  int64_t window_rows;    /* of them in the window, per KV head */
  int64_t host_rows;      /* of them in the host tier, per KV head */
  int64_t kv_bytes;       /* rows in host memory, all KV heads: with window_codec also those of the coded tokens */
  int64_t index_bytes;    /* host index, all KV heads */
  double index_build_us;  /* worker time spent in building and extending the index, all KV heads */
  int64_t coded_rows;     /* of window_rows, those that window_codec compresses, per KV head */
  int64_t dropped_rows;   /* tokens that left the window and are lost, for want of a host tier, per KV head */
  int64_t window_bytes;   /* device memory of the window, all KV heads */
  int64_t window_entries; /* rows and coded rows that the window holds, all KV heads: they differ where a window_policy
                             keeps or merges tokens, and the counts per KV head above are those of the largest */
} td_seq_info;
TD_API td_status td_seq_query(td_rt* rt, td_seq seq, int32_t layer, td_seq_info* info);

/* ---- one step of one layer ----------------------------------------------------------------------------------------
 */
enum { TD_N_STAGES = 7 };
typedef enum { TD_APPEND, TD_EVICT, TD_INDEX, TD_WINDOW, TD_SELECT, TD_ATTEND, TD_MERGE } td_stage;

typedef struct {
  uint32_t size;
  int32_t num_workers;
  double us[TD_N_STAGES]; /* time of the workers that ran the tasks, per stage, summed; not that of those who helped */
  int64_t bytes[TD_N_STAGES]; /* K and V bytes that the stage read or wrote */
  double total_us;            /* wall clock of the call */
  int64_t rows_window;        /* rows in the window, summed over queries and KV heads */
  int64_t rows_host;          /* rows in the host tier that the queries could see, likewise */
  int64_t rows_gathered;      /* distinct host rows gathered, likewise: the share is rows_gathered / rows_host */
  int64_t keys_attended;      /* keys that enter the softmax, summed over queries and query heads */
  int64_t keys_visible;       /* keys that dense attention would use, likewise */
  double lse_error;           /* estimated standard error of the merged lse, mean over queries and query heads: 0 for
                                 exact attention, -1 where there is no estimate (TOP_K, parts < ALL, or a query
                                 head that sampled none of the rows it could see) */
  double out_error;           /* estimated |out - dense| / |dense|, mean over queries and query heads; likewise */
  int64_t uncertified;        /* queries x query heads whose estimates are no more than an indication */
  int64_t rows_dropped;       /* rows that left the window and are lost, for want of a host tier, all KV heads */
  int64_t bytes_streamed;     /* host rows that went to a CUDA device, part of bytes[TD_ATTEND]: it attends rows of
                                 fp32, fp16 or bf16 for the exact queries of a sequence and KV head, from 128 query
                                 vectors on (fp32: 256) */
} td_stats;

typedef struct {
  uint32_t size;
  int32_t layer;
  int32_t num_seqs;
  int32_t reserved;
  const td_seq* seqs;        /* num_seqs distinct sequences */
  const int64_t* num_tokens; /* tokens of each; the rows of k and v are in that order */
  td_tensor k;               /* (sum of num_tokens, num_kv_heads, head_dim_k); with TD_POLICY_DMC before RoPE */
  td_tensor v;               /* (sum of num_tokens, num_kv_heads, head_dim_v) */
  td_tensor q;        /* optional (data NULL): (sum, num_q_heads, head_dim_k); checked; for selectors that calibrate */
  td_stats* stats;    /* optional */
  const float* keep;  /* TD_SCORES_GIVEN: (sum of num_tokens, num_kv_heads) */
  const float* merge; /* TD_DECISIONS_GIVEN: likewise, logits: a token merges into the open entry where positive */
  const float* importance; /* TD_DECISIONS_GIVEN: likewise, logits of a token's weight in its entry */
  void* stream;            /* of tensors in device memory: a cudaStream_t; NULL: the default stream */
} td_append_args;
/* Appends to one layer of each sequence. All or nothing. */
TD_API td_status td_append(td_rt* rt, const td_append_args* args);

enum {
  TD_PART_STATIC = 1,  /* the window */
  TD_PART_DYNAMIC = 2, /* the host tier */
  TD_PART_ALL = 3,
  TD_EXACT = 4 /* with DYNAMIC: every host row, whatever the selector (prefill, verification) */
};

typedef struct {
  uint32_t size;
  int32_t layer;
  int32_t parts; /* TD_PART_*, may be or-ed with TD_EXACT */
  int32_t num_seqs;
  const td_seq* seqs; /* num_seqs distinct sequences */
  const int64_t*
      num_queries; /* of each; they belong to the last num_queries tokens that were appended, causal among themselves */
  td_tensor q;     /* (sum of num_queries, num_q_heads, head_dim_k) */
  td_tensor out;   /* (sum of num_queries, num_q_heads, head_dim_v), written; overlaps no input */
  float* lse;      /* optional: (sum of num_queries, num_q_heads), natural log; -inf where no key is visible. In the
                      same memory as out */
  const float* sinks;     /* optional: num_q_heads logits of attention sinks, added once whatever the parts */
  const float* alibi;     /* optional: num_q_heads slopes; the logit gets slope * (key position - query position) */
  int64_t sliding_window; /* a query sees this many latest tokens, itself included; 0: all */
  td_stats* stats;        /* optional */
  float* error; /* optional: (sum of num_queries, num_q_heads), estimated |out - dense| / |dense|, above 1 where dense
                   is short beside what it is made of; -1: unknown. In host memory wherever the tensors are */
  uint8_t* certified; /* optional: likewise; 1: the true error is at most twice the estimate in 96 % of all cases.
                         Never with int8 or k8v4 rows, whose own error is only known as typical */
  void* stream; /* of tensors in device memory: a cudaStream_t, which is not being captured; NULL: the default stream */
} td_attend_args;
TD_API td_status td_attend(td_rt* rt, const td_attend_args* args);

/* ---- borrowed rows -------------------------------------------------------------------------------------------------
 * For engines that keep K and V themselves, in rows (cells, slots of blocks) that they write, overwrite and give to
 * whichever sequence they like. A pool is the memory of one layer's rows: Tandem reads them where they lie, copies
 * none, and keeps an index of those that queries have seen. No td_append, no td_seq, no window: for each query the
 * engine says which rows it sees, and Tandem finds out by itself what is new and what a sequence is.
 *
 * What was learned about a row holds until it is written again. Say so with td_rows_written, before or after the write
 * but before the next td_attend_rows; writes that nobody reports are found when a query comes upon such a row, and by
 * probes, as td_pool_args.probes says.
 *
 * Calls on different pools may run in parallel, also beside td_append and td_attend; of two at once on one pool the
 * second returns TD_ESTATE. Rows must not be written or freed while a call on their pool runs, and between calls nobody
 * reads them. */
typedef uint64_t td_pool; /* of one td_rt; 0 is never valid */

typedef struct {
  uint32_t size;
  int32_t layer;
  td_tensor k; /* (rows, num_kv_heads, head_dim_k) of TD_F32, TD_F16, TD_BF16, TD_Q8_0 or TD_Q4_0, in host memory; */
  td_tensor v; /* (rows, num_kv_heads, head_dim_v) of the same dtype and strides. Both head_dims: multiples of 16, of 32
                  with TD_Q8_0 and TD_Q4_0. Rows may hold anything until a query sees them; then numbers, all finite */
  int32_t probes; /* rows that a query sees and does not select, whose fingerprints are compared at each
                     td_attend_rows, per KV head, beside those of all rows that it selects; 0: 4, -1: none of either */
  int32_t reserved;
} td_pool_args;
TD_API td_status td_pool_bind(td_rt* rt, const td_pool_args* args, td_pool* out);
TD_API td_status td_pool_unbind(td_rt* rt, td_pool pool);
/* These rows (num_rows of them, in any order) have new contents, or will have by the next td_attend_rows. */
TD_API td_status td_rows_written(td_rt* rt, td_pool pool, const int64_t* rows, int64_t num_rows);
/* What was learned about these rows is forgotten; num_rows -1: about all. Needed by nobody, but it frees memory. */
TD_API td_status td_rows_dropped(td_rt* rt, td_pool pool, const int64_t* rows, int64_t num_rows);
/* Compares the fingerprints of all rows of the index and forgets what was learned about those that differ; *stale (may
 * be NULL) gets their number. */
TD_API td_status td_rows_verify(td_rt* rt, td_pool pool, int64_t* stale);

typedef struct {
  uint32_t size;
  int32_t num_lists;      /* lists of rows that queries have seen, each with an index of its own: sequences, mostly */
  int64_t indexed_rows;   /* of all lists */
  int64_t index_bytes;    /* all KV heads: codes, fingerprints and lists */
  int64_t rows_reindexed; /* rows whose index was forgotten since td_pool_bind, because they, or rows before them in
                             their list, were written or dropped */
  int64_t rows_found;     /* of these, those whose writing nobody had reported */
} td_pool_info;
TD_API td_status td_pool_query(td_rt* rt, td_pool pool, td_pool_info* info);

typedef enum {
  TD_VISIBLE_MASK = 0,  /* what is added to the logits, in f16; -inf hides */
  TD_VISIBLE_ROWS = 1,  /* lists of rows */
  TD_VISIBLE_BLOCKS = 2 /* tables of blocks */
} td_visible_kind;

/* Which rows of the pool each of num_queries queries sees, oldest first if there is an order. Fields that the kind does
 * not name are not read. */
typedef struct {
  uint32_t size;
  int32_t kind;             /* td_visible_kind */
  int32_t num_queries;      /* of all kinds */
  int32_t block_size;       /* BLOCKS: rows of a block */
  const uint16_t* mask;     /* MASK: f16 (num_queries, num_columns) */
  int64_t mask_stride;      /* MASK: bytes from one query to the next; 0: dense */
  int64_t num_columns;      /* MASK */
  const int64_t* first_row; /* MASK: optional: (num_queries), the row that column 0 stands for; NULL: row 0 */
  const int64_t* rows;      /* ROWS: query i sees rows[row_begin[i]] to rows[row_begin[i + 1] - 1], all different */
  const int64_t* row_begin; /* ROWS: (num_queries + 1), ascending */
  const int32_t* blocks; /* BLOCKS: token t of query i is row blocks[i * block_stride + t / block_size] * block_size +
                            t % block_size */
  int64_t block_stride;  /* BLOCKS: elements from one query's line to the next; 0: all have the same */
  const int64_t* num_tokens; /* BLOCKS: (num_queries) */
} td_visibility;

typedef struct {
  uint32_t size;
  int32_t exact; /* not 0: every visible row, whatever the selector */
  td_pool pool;
  const td_visibility* visible;
  td_tensor q;        /* (num_queries, num_q_heads, head_dim_k), host memory */
  td_tensor out;      /* (num_queries, num_q_heads, head_dim_v), written; overlaps no input and no row */
  float* lse;         /* optional: (num_queries, num_q_heads), natural log. Where no row is visible, out is 0 and
                         lse -inf, or that of the sinks */
  const float* sinks; /* optional: num_q_heads logits of attention sinks */
  const float* alibi; /* optional: num_q_heads factors of the mask's values */
  float* error;       /* optional: (num_queries, num_q_heads), as in td_attend_args */
  uint8_t* certified; /* likewise */
  td_stats* stats;    /* optional. Rows of the latest local_tokens of a list count as the window's */
} td_attend_rows_args;
/* Attention of queries over the rows that each sees. Queries select, by td_config.selector, where it pays and where
 * their mask adds nothing but 0, from the second time on that they come with all rows of the time before; all others
 * attend to every visible row, exactly: also sliding windows, which lose rows. The first sink_tokens rows of a list and
 * its latest are always attended: local_tokens of these, fewer after a cut until the list has grown by as many, and
 * fewer for a query that does not see the whole list. A sketch is calibrated on the queries of these calls: until 64
 * query vectors of a KV head have been seen it selects every row. Where a result is not finite, because a row that the
 * query attends to is not or out's dtype is too small: TD_EINVAL; out has then been written, and what was learned about
 * the pool's rows is forgotten. A row whose product with a query is NaN gets no weight. */
TD_API td_status td_attend_rows(td_rt* rt, const td_attend_rows_args* args);

/* ---- begin and wait ------------------------------------------------------------------------------------------------
 * The same calls in two halves, for engines that have work of their own meanwhile: begin returns when the arguments
 * have been read, and what they point to (tensors, seqs, counts, results, stats) belongs to the call until td_call_wait
 * returns. One thread of the runtime runs begun calls, one after another in the order in which they were begun, with
 * all workers. Each must be waited for once; its status and its error text are those of td_call_wait. td_destroy runs
 * what has been begun to its end.
 * Tensors in device memory: a begun call waits for all that its stream has been given when it runs, which may be more
 * than when it was begun. Two half batches that are to overlap, one's attention with the other's weights, take a stream
 * each. */
typedef uint64_t td_call; /* of one td_rt; 0 is never valid */
TD_API td_status td_append_begin(td_rt* rt, const td_append_args* args, td_call* out);
TD_API td_status td_attend_begin(td_rt* rt, const td_attend_args* args, td_call* out);
TD_API td_status td_attend_rows_begin(td_rt* rt, const td_attend_rows_args* args, td_call* out);
/* TD_ESTATE for a call that was waited for before, or is waited for by another thread. */
TD_API td_status td_call_wait(td_rt* rt, td_call call);
/* *ended: 1 where td_call_wait would return at once, else 0. */
TD_API td_status td_call_test(td_rt* rt, td_call call, int32_t* ended);

/* ---- timeline -----------------------------------------------------------------------------------------------------
 * Records what every call does from here on, for ui.perfetto.dev or chrome://tracing: a span for each td_append and
 * td_attend, and within its time, on the thread that did it, spans for what is appended and evicted, index, window,
 * select, attend and merge, with sequence, layer, KV head, rows and bytes; and a track for the device, where it knows
 * when it worked. Workers who share the work of another one's task have no spans of it. Costs some 100 ns a span, and
 * next to nothing when off.
 *
 * Every thread keeps its latest spans: max_spans in all (0: 524,288, about 40 MB), split evenly among the workers,
 * seven calling threads and the device. The event tandem_timeline in the file says how many were dropped, and by
 * start_ns what the steady clock (CLOCK_MONOTONIC) said at ts 0, for engines that add spans of their own. Whether
 * `path` can be written is found out at once: TD_EIO. TD_ESTATE when a timeline is being recorded already. */
TD_API td_status td_timeline_start(td_rt* rt, const char* path, int64_t max_spans);
/* Writes the file, whole or not at all; what has not ended is not in it. A runtime that is destroyed before writes
 * none. TD_ESTATE without a start, TD_EIO when the file cannot be written. Either call may run beside all others. */
TD_API td_status td_timeline_stop(td_rt* rt);

/* Messages of the library; NULL (the default) is silence. The hook may be called from any thread. */
typedef void (*td_log_fn)(int level /* 0 debug, 1 info, 2 warning */, const char* message, void* user);
TD_API void td_set_log(td_log_fn hook, void* user);

#ifdef __cplusplus
}
#endif
#endif
