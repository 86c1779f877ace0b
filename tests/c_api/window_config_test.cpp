// Codecs and policies of the window, through the structs and through JSON: what is refused, and what comes back.
#include <functional>
#include <limits>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// A configuration that every codec and every policy can be added to.
struct Window {
  td_config config = c_api::config();
  td_codec codec = init<td_codec>();
  td_window_policy policy = init<td_window_policy>();

  Window() {
    config.head_dim_k = 64;
    config.local_tokens = 256;
    config.rope_theta = 10000;
  }
  [[nodiscard]] td_status create(td_rt** rt) {
    config.window_codec = &codec;
    config.window_policy = &policy;
    return td_create(&config, rt);
  }
};

struct Bad {
  const char* message;
  void (*spoil)(Window&);
  td_status status = TD_EINVAL;
};

class WindowStructs : public testing::TestWithParam<Bad> {};

TEST_P(WindowStructs, AreRefused) {
  Window window;
  GetParam().spoil(window);
  td_rt* rt = nullptr;
  EXPECT_EQ(window.create(&rt), GetParam().status);
  EXPECT_EQ(rt, nullptr);
  EXPECT_THAT(td_last_error(), testing::HasSubstr(GetParam().message));
}

void codec(Window& w, std::int32_t kind) { w.codec.kind = kind; }
void policy(Window& w, std::int32_t kind) {
  w.policy.kind = kind;
  w.policy.kept_tokens = 32;
}

INSTANTIATE_TEST_SUITE_P(
    BadCodecs, WindowStructs,
    testing::Values(
        Bad{"window_codec.kind is 6; allowed: 0 (none), 1 (int8), 2 (fp8), 3 (kivi), 4 (qjl), 5 (nuq)",
            [](Window& w) { codec(w, 6); }},
        Bad{"window_codec.kind is -1; allowed: 0 (none)", [](Window& w) { codec(w, -1); }},
        Bad{"codec bits of kivi is 3; allowed: 2 or 4", [](Window& w) { codec(w, TD_CODEC_KIVI), w.codec.bits = 3; }},
        Bad{"codec bits of kivi is -2; allowed: 2 or 4", [](Window& w) { codec(w, TD_CODEC_KIVI), w.codec.bits = -2; }},
        Bad{"codec group of kivi is 48; allowed: 32, 64 or 128",
            [](Window& w) { codec(w, TD_CODEC_KIVI), w.codec.group = 48; }},
        Bad{"codec group of kivi is 128; allowed: divisors of head_dim_v, which is 64",
            [](Window& w) { codec(w, TD_CODEC_KIVI), w.codec.group = 128; }},
        Bad{"codec sketch_bits of qjl is 100; allowed: multiples of 64, 64 to 1024",
            [](Window& w) { codec(w, TD_CODEC_QJL), w.codec.sketch_bits = 100; }},
        Bad{"codec sketch_bits of qjl is 1088; allowed: multiples of 64",
            [](Window& w) { codec(w, TD_CODEC_QJL), w.codec.sketch_bits = 1088; }},
        Bad{"codec outlier_bits of qjl is 320; allowed: multiples of 64 up to sketch_bits, which is 256",
            [](Window& w) { codec(w, TD_CODEC_QJL), w.codec.outlier_bits = 320; }},
        Bad{"codec outliers of qjl is 33; allowed: 0 to 32",
            [](Window& w) { codec(w, TD_CODEC_QJL), w.codec.outliers = 33; }},
        Bad{"codec outliers of qjl is -2; allowed: 0 to 32",
            [](Window& w) { codec(w, TD_CODEC_QJL), w.codec.outliers = -2; }},
        Bad{"window_codec.projection is 2; allowed: 0 (orthogonal), 1 (gaussian)",
            [](Window& w) { codec(w, TD_CODEC_QJL), w.codec.projection = 2; }},
        Bad{"residual_tokens is 31; with the codec int8 it must be a multiple of 32, the tokens of a group, and no "
            "less",
            [](Window& w) { codec(w, TD_CODEC_INT8), w.config.residual_tokens = 31; }},
        Bad{"residual_tokens is 32; with the codec kivi it must be a multiple of 64, the tokens of a group, and no "
            "less",
            [](Window& w) { codec(w, TD_CODEC_KIVI), w.codec.group = 64, w.config.residual_tokens = 32; }},
        Bad{"residual_tokens is -32; with the codec fp8 it must be a multiple of 32",
            [](Window& w) { codec(w, TD_CODEC_FP8), w.config.residual_tokens = -32; }},
        Bad{"residual_tokens is 256; it must be less than local_tokens (256), or nothing is left to compress",
            [](Window& w) { codec(w, TD_CODEC_INT8), w.config.residual_tokens = 256; }},
        Bad{"residual_tokens is 128; it must be less than local_tokens (128)",  // the default
            [](Window& w) { codec(w, TD_CODEC_INT8), w.config.local_tokens = 128; }}));

INSTANTIATE_TEST_SUITE_P(
    BadPolicies, WindowStructs,
    testing::Values(
        Bad{"window_policy.kind is 4; allowed: 0 (latest), 1 (heavy hitters), 2 (threshold), 3 (dmc)",
            [](Window& w) { policy(w, 4); }},
        Bad{"window_policy.kind is -1; allowed: 0 (latest)", [](Window& w) { policy(w, -1); }},
        Bad{"window_policy.scores is 2; allowed: 0 (attention), 1 (given)",
            [](Window& w) { policy(w, TD_POLICY_THRESHOLD), w.policy.scores = 2; }},
        Bad{"window_policy.decisions is -1; allowed: 0 (given), 1 (last neuron)",
            [](Window& w) { policy(w, TD_POLICY_DMC), w.policy.decisions = -1; }},
        Bad{"kept_tokens is 0; allowed: 1 to 16777216",
            [](Window& w) { policy(w, TD_POLICY_HEAVY_HITTERS), w.policy.kept_tokens = 0; }},
        Bad{"kept_tokens is -5; allowed: 1 to 16777216",
            [](Window& w) { policy(w, TD_POLICY_THRESHOLD), w.policy.kept_tokens = -5; }},
        Bad{"page_tokens is 65; allowed: 1 to 64",
            [](Window& w) { policy(w, TD_POLICY_HEAVY_HITTERS), w.policy.page_tokens = 65; }},
        Bad{"page_tokens is -1; allowed: 1 to 64",
            [](Window& w) { policy(w, TD_POLICY_THRESHOLD), w.policy.page_tokens = -1; }},
        Bad{"threshold is nan; allowed: finite values",
            [](Window& w) { policy(w, TD_POLICY_THRESHOLD), w.policy.threshold = kNaN; }},
        Bad{"threshold is inf; allowed: finite values",  // in fp32
            [](Window& w) { policy(w, TD_POLICY_THRESHOLD), w.policy.threshold = 1e300; }},
        Bad{"threshold is -1; allowed for scores from attention: from 0",
            [](Window& w) { policy(w, TD_POLICY_THRESHOLD), w.policy.threshold = -1; }},
        Bad{"merge_window is 65; allowed: 1 to 64",
            [](Window& w) { policy(w, TD_POLICY_DMC), w.policy.merge_window = 65; }},
        Bad{"merge_window is -1; allowed: 1 to 64",
            [](Window& w) { policy(w, TD_POLICY_DMC), w.policy.merge_window = -1; }},
        Bad{"window_policy dmc needs rope_theta, which is 0",
            [](Window& w) { policy(w, TD_POLICY_DMC), w.config.rope_theta = 0; }},
        Bad{"compact_sinks needs rope_theta, which is 0",
            [](Window& w) { w.policy.compact_sinks = 1, w.config.host_tier = TD_OFF, w.config.rope_theta = 0; }},
        Bad{"compact_sinks is set and host_tier is on", [](Window& w) { w.policy.compact_sinks = 1; }},
        Bad{"window_codec is int8; a window_policy that keeps single tokens works on rows",
            [](Window& w) { policy(w, TD_POLICY_HEAVY_HITTERS), codec(w, TD_CODEC_INT8); }, TD_EUNSUPPORTED},
        Bad{"window_codec is kivi; a window_policy that keeps single tokens works on rows",
            [](Window& w) { policy(w, TD_POLICY_THRESHOLD), codec(w, TD_CODEC_KIVI); }, TD_EUNSUPPORTED},
        Bad{"rope_theta is nan; allowed: 1 to 1e12", [](Window& w) { w.config.rope_theta = kNaN; }},
        Bad{"rope_theta is 0.5; allowed: 1 to 1e12", [](Window& w) { w.config.rope_theta = 0.5; }},
        Bad{"rope_dims is 7; allowed: even numbers up to head_dim_k (64)", [](Window& w) { w.config.rope_dims = 7; }},
        Bad{"rope_dims is 66; allowed: even numbers", [](Window& w) { w.config.rope_dims = 66; }},
        Bad{"host_tier is 2; allowed: 1 (on), -1 (off)", [](Window& w) { w.config.host_tier = 2; }}));

std::string json_with(const std::string& field) {
  return R"({"num_layers": 2, "num_q_heads": 4, "num_kv_heads": 2, "head_dim_k": 64, "local_tokens": 256, "num_threads": 2)" +
         (field.empty() ? "" : ", " + field) + "}";
}

class WindowJson : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(WindowJson, IsRefused) {
  const auto [field, message] = GetParam();
  td_rt* rt = nullptr;
  EXPECT_NE(td_create_json(json_with(field).c_str(), &rt), TD_OK);
  EXPECT_EQ(rt, nullptr);
  EXPECT_THAT(td_last_error(), testing::HasSubstr(message));
}

INSTANTIATE_TEST_SUITE_P(
    Bad, WindowJson,
    testing::Values(
        std::pair{R"("window_codec": "int8")", "window_codec is string; it must be an object"},
        std::pair{R"("window_codec": {"kind": "int4"})",
                  "window_codec.kind is 'int4'; allowed: none, int8, fp8, kivi, qjl, nuq"},
        std::pair{R"("window_codec": {"kind": 1})", "window_codec.kind is 1; it must be a string"},
        std::pair{R"("window_codec": {"kind": "int8", "bits": 4})", "window_codec.bits is not a field; allowed: kind"},
        std::pair{R"("window_codec": {"kind": "kivi", "bits": "4"})",
                  R"(window_codec.bits is "4"; it must be an integer)"},
        std::pair{R"("window_codec": {"kind": "kivi", "bits": 3})", "codec bits of kivi is 3; allowed: 2 or 4"},
        std::pair{R"("window_codec": {"kind": "kivi", "group": 48})", "codec group of kivi is 48; allowed"},
        std::pair{R"("window_codec": {"kind": "qjl", "projection": "haar"})",
                  "window_codec.projection is 'haar'; allowed: orthogonal, gaussian"},
        std::pair{R"("window_codec": {"kind": "qjl", "outliers": 33})",
                  "codec outliers of qjl is 33; allowed: 0 to 32"},
        std::pair{R"("window_codec": {"kind": "int8"}, "residual_tokens": 31)",
                  "residual_tokens is 31; with the codec int8"},
        std::pair{R"("window_policy": "latest")", "window_policy is string; it must be an object"},
        std::pair{R"("window_policy": {"kind": "h2o"})",
                  "window_policy.kind is 'h2o'; allowed: latest, heavy_hitters, threshold, dmc"},
        std::pair{R"("window_policy": {"kind": "latest", "kept_tokens": 4})",
                  "window_policy.kept_tokens is not a field"},
        std::pair{R"("window_policy": {"kind": "heavy_hitters"})", "kept_tokens is 0; allowed: 1 to"},
        std::pair{R"("window_policy": {"kind": "heavy_hitters", "kept_tokens": 4, "threshold": 1})",
                  "window_policy.threshold is not a field; allowed: kept_tokens, kind, page_tokens"},
        std::pair{R"("window_policy": {"kind": "threshold", "kept_tokens": 4, "scores": "learned"})",
                  "window_policy.scores is 'learned'; allowed: attention, given"},
        std::pair{R"("window_policy": {"kind": "dmc", "decisions": "guessed"})",
                  "window_policy.decisions is 'guessed'; allowed: given, last_neuron"},
        std::pair{R"("window_policy": {"kind": "dmc"})", "window_policy dmc needs rope_theta, which is 0"},
        std::pair{R"("window_policy": {"kind": "dmc", "common_length": 1})",
                  "window_policy.common_length is 1; it must be true or false"},
        std::pair{R"("window_policy": {"compact_sinks": true})", "compact_sinks needs rope_theta"},
        std::pair{R"("host_tier": -1)", "config.host_tier is -1; it must be true or false"},
        std::pair{R"("rope_interleaved": 1)", "config.rope_interleaved is 1; it must be true or false"}));

struct Form {
  const char* json;
  void (*set)(Window&);
  std::vector<const char*> parts;  ///< of what td_describe says
};

class Forms : public testing::TestWithParam<Form> {};

TEST_P(Forms, StructAndJsonAreTheSameConfigurationAndComeBack) {
  Window window;
  window.config.never_slower = TD_ON;  // as in JSON
  window.config.sink_tokens = 4;
  GetParam().set(window);
  td_rt* created = nullptr;
  ASSERT_EQ(window.create(&created), TD_OK) << td_last_error();
  const std::string text = config_text(created);
  td_destroy(created);
  const Rt from_json(json_with(R"("sink_tokens": 4, "rope_theta": 10000, )" + std::string(GetParam().json)));
  EXPECT_EQ(config_text(from_json), text);
  EXPECT_EQ(config_text(Rt(text)), text);
  for (const char* part : GetParam().parts) EXPECT_THAT(text, testing::HasSubstr(part));
}

INSTANTIATE_TEST_SUITE_P(
    Good, Forms,
    testing::Values(
        Form{R"("host_tier": true)",
             [](Window&) {},
             {R"("window_codec":{"kind":"none"})", R"("compact_sinks":false)", R"("host_tier":true)",
              R"("residual_tokens":128)"}},
        Form{R"("window_codec": {"kind": "int8"}, "residual_tokens": 64)",
             [](Window& w) { codec(w, TD_CODEC_INT8), w.config.residual_tokens = 64; },
             {R"("window_codec":{"kind":"int8"})", R"("residual_tokens":64)"}},
        Form{R"("window_codec": {"kind": "kivi", "bits": 2, "group": 64})",
             [](Window& w) { codec(w, TD_CODEC_KIVI), w.codec.bits = 2, w.codec.group = 64; },
             {R"("bits":2)", R"("group":64)"}},
        Form{R"("window_codec": {"kind": "kivi"}, "host_tier": false)",
             [](Window& w) { codec(w, TD_CODEC_KIVI), w.config.host_tier = TD_OFF; },
             {R"("bits":4)", R"("group":32)", R"("host_tier":false)"}},
        Form{
            R"("window_codec": {"kind": "qjl", "outliers": -1, "projection": "gaussian", "seed": 18446744073709551615})",
            [](Window& w) {
              codec(w, TD_CODEC_QJL), w.codec.outliers = -1, w.codec.projection = TD_PROJECTION_GAUSSIAN;
              w.codec.seed = std::numeric_limits<std::uint64_t>::max();
            },
            {R"("outliers":-1)", R"("projection":"gaussian")", R"("sketch_bits":256)"}},
        Form{R"("window_codec": {"kind": "qjl", "sketch_bits": 128, "outlier_bits": 64})",
             [](Window& w) { codec(w, TD_CODEC_QJL), w.codec.sketch_bits = 128, w.codec.outlier_bits = 64; },
             {R"("outliers":8)", R"("projection":"orthogonal")", R"("outlier_bits":64)"}},
        Form{R"("window_policy": {"kind": "heavy_hitters", "kept_tokens": 32})",
             [](Window& w) { policy(w, TD_POLICY_HEAVY_HITTERS); },
             {R"("kept_tokens":32)", R"("page_tokens":64)"}},
        Form{
            R"("window_policy": {"kind": "threshold", "kept_tokens": 32, "page_tokens": 5, "threshold": -0.5, "scores": "given"})",
            [](Window& w) {
              policy(w, TD_POLICY_THRESHOLD), w.policy.page_tokens = 5, w.policy.threshold = -0.5;
              w.policy.scores = TD_SCORES_GIVEN;
            },
            {R"("threshold":-0.5)", R"("scores":"given")", R"("page_tokens":5)"}},
        Form{R"("window_policy": {"kind": "dmc"})",
             [](Window& w) { policy(w, TD_POLICY_DMC); },
             {R"("decisions":"given")", R"("merge_window":12)", R"("common_length":false)"}},
        Form{
            R"("rope_dims": 32, "rope_interleaved": true, "window_policy": {"kind": "dmc", "decisions": "last_neuron", "merge_window": 3, "common_length": true})",
            [](Window& w) {
              policy(w, TD_POLICY_DMC), w.policy.decisions = TD_DECISIONS_LAST_NEURON, w.policy.merge_window = 3;
              w.policy.common_length = 1, w.config.rope_dims = 32, w.config.rope_interleaved = 1;
            },
            {R"("decisions":"last_neuron")", R"("merge_window":3)", R"("common_length":true)", R"("rope_dims":32)"}},
        Form{R"("host_tier": false, "window_policy": {"kind": "latest", "compact_sinks": true})",
             [](Window& w) { w.policy.compact_sinks = 1, w.config.host_tier = TD_OFF; },
             {R"("compact_sinks":true)", R"("kind":"latest")"}}));

TEST(WindowFields, ThoseOfOtherKindsAreNotRead) {
  Window window;
  codec(window, TD_CODEC_INT8), window.codec.projection = 7, window.codec.bits = -1;
  policy(window, TD_POLICY_LATEST), window.policy.scores = 7, window.policy.decisions = -1;
  td_rt* rt = nullptr;
  EXPECT_EQ(window.create(&rt), TD_OK) << td_last_error();
  td_destroy(rt);
}

td_window_policy policy_of(td_policy_kind kind) {
  auto p = init<td_window_policy>();
  p.kind = kind;
  p.kept_tokens = 10;
  p.page_tokens = 1;
  return p;
}

/// A runtime whose policy takes values with new tokens, and calls that lack or spoil them.
TEST(PolicyInput, RefusedAppendsChangeNothing) {
  const float nan = static_cast<float>(kNaN);
  struct Call {
    td_policy_kind kind;
    const char* message;
    void (*spoil)(td_append_args&, std::vector<float>&);
  };
  for (const Call& call :
       {Call{TD_POLICY_THRESHOLD, "keep is NULL; the window_policy threshold with given scores needs it",
             [](td_append_args&a, auto&) { a.keep = nullptr; }},
        Call{TD_POLICY_THRESHOLD, "keep is nan for token 1, KV head 0; every value must be finite",
             [](td_append_args&a, auto&bad) { a.keep = bad.data(); }},
        Call{TD_POLICY_DMC, "merge is NULL; the window_policy dmc needs it",
             [](td_append_args&a, auto&) { a.merge = nullptr; }},
        Call{TD_POLICY_DMC, "importance is NULL; the window_policy dmc needs it",
             [](td_append_args&a, auto&) { a.importance = nullptr; }},
        Call{TD_POLICY_DMC, "merge is nan for token 1, KV head 0; every value must be finite",
             [](td_append_args&a, auto&bad) { a.merge = bad.data(); }},
        Call{TD_POLICY_DMC, "importance is nan for token 1, KV head 0; every value must be finite",
             [](td_append_args&a, auto&bad) { a.importance = bad.data(); }},
        Call{TD_POLICY_DMC, "keep is given; the window_policy dmc takes none",
             [](td_append_args&a, auto&) { a.keep = a.merge; }},
        Call{TD_POLICY_HEAVY_HITTERS, "merge is given; the window_policy heavy_hitters takes none",
             [](td_append_args&a, auto&bad) { a.merge = bad.data(); }},
        Call{TD_POLICY_LATEST, "keep is given; the window_policy latest takes none",
             [](td_append_args&a, auto&bad) { a.keep = bad.data(); }}}) {
    td_window_policy p = policy_of(call.kind);
    p.scores = TD_SCORES_GIVEN;
    td_config c = config();
    c.window_policy = &p;
    c.rope_theta = 10000;
    const Rt rt(c);
    const td_seq seq = create(rt);
    const std::vector<float> good(2 * kLocal * kKvHeads, 0.5f);
    std::vector<float> bad(3 * kKvHeads, 0.5f);
    bad[kKvHeads] = nan;
    const auto fill_in = [&](td_append_args& args) {
      if (call.kind == TD_POLICY_THRESHOLD) args.keep = good.data();
      if (call.kind == TD_POLICY_DMC) args.merge = args.importance = good.data();
    };
    for (std::int32_t layer = 0; layer < kLayers; ++layer) {
      for (int i = 0; i < 4; ++i) {
        Append append({seq}, {kLocal}, 5, layer);
        fill_in(append.args);
        ASSERT_EQ(append.run(rt), TD_OK) << td_last_error();
      }
    }
    const Snapshot before(rt, {seq}, call.kind != TD_POLICY_HEAVY_HITTERS);
    Append append({seq}, {3}, 9);
    fill_in(append.args);
    call.spoil(append.args, bad);
    EXPECT_EQ(append.run(rt), TD_EINVAL);
    EXPECT_STREQ(td_last_error(), call.message);
    EXPECT_EQ(Snapshot(rt, {seq}, call.kind != TD_POLICY_HEAVY_HITTERS), before) << call.message;
  }
}

TEST(PolicyInput, ChunksThatQueriesCannotSeeAreRefused) {
  for (const td_policy_kind kind : {TD_POLICY_HEAVY_HITTERS, TD_POLICY_DMC}) {
    const td_window_policy p = policy_of(kind);
    td_config c = config();
    c.window_policy = &p;
    c.rope_theta = 10000;
    const Rt rt(c);
    const td_seq seq = create(rt);
    const std::vector<float> values(2 * kLocal * kKvHeads, 0.5f);
    Append append({seq}, {kLocal + 1}, 5);
    if (kind == TD_POLICY_DMC) append.args.merge = append.args.importance = values.data();
    EXPECT_EQ(append.run(rt), TD_EINVAL);
    EXPECT_THAT(td_last_error(), testing::HasSubstr("num_tokens[0] is 33; this window_policy sees new tokens before"));
    EXPECT_THAT(td_last_error(), testing::HasSubstr("allowed are up to 32 at a time (local_tokens)"));
  }
}

TEST(HostTier, OffSaysWhatIsLost) {
  td_config c = config();
  c.host_tier = TD_OFF;
  const Rt rt(c);
  const td_seq seq = create(rt);
  Append append({seq}, {300}, 3);
  auto stats = init<td_stats>();
  append.args.stats = &stats;
  ASSERT_EQ(append.run(rt), TD_OK) << td_last_error();
  auto info = init<td_seq_info>();
  ASSERT_EQ(td_seq_query(rt, seq, 0, &info), TD_OK);
  const std::int64_t lost = 256;  // pages of 64, so that 4 + 32 + 64 fit
  EXPECT_EQ(info.dropped_rows, lost);
  EXPECT_EQ(stats.rows_dropped, kKvHeads * lost);
  EXPECT_EQ(info.window_rows, 300 - lost);
  EXPECT_EQ(info.window_entries, kKvHeads * (300 - lost));
  EXPECT_EQ(info.host_rows, 0);
  EXPECT_EQ(info.kv_bytes, 0);
  EXPECT_EQ(td_seq_truncate(rt, seq, 100), TD_EINVAL);  // layer 1 is empty
  ASSERT_EQ(Append({seq}, {300}, 4, 1).run(rt), TD_OK);
  EXPECT_EQ(td_seq_truncate(rt, seq, 100), TD_ESTATE);
  EXPECT_THAT(td_last_error(),
              testing::HasSubstr("has lost the tokens 4 to 259 of layer 0: allowed are 0 to 4 and 260"));
  EXPECT_EQ(td_seq_truncate(rt, seq, 260), TD_OK) << td_last_error();
}

}  // namespace
}  // namespace c_api
