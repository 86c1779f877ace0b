// Every way to configure a runtime wrongly, through the struct and through JSON.
#include <cmath>
#include <limits>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct BadConfig {
  const char* message;  // a part that names field, value and what is allowed
  void (*spoil)(td_config&);
  td_status status = TD_EINVAL;
};

class Config : public testing::TestWithParam<BadConfig> {};

TEST_P(Config, IsRefused) {
  td_config c = config();
  GetParam().spoil(c);
  td_rt* rt = nullptr;
  EXPECT_EQ(td_create(&c, &rt), GetParam().status);
  EXPECT_EQ(rt, nullptr) << "out was written";
  EXPECT_THAT(td_last_error(), testing::HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Bad, Config,
    testing::Values(
        BadConfig{"config.abi is 0; this library has ABI 1", [](td_config& c) { c.abi = 0; }, TD_EUNSUPPORTED},
        BadConfig{"config.abi is 2; this library has ABI 1", [](td_config& c) { c.abi = 2; }, TD_EUNSUPPORTED},
        BadConfig{"num_layers is 0; allowed: 1 to 65536", [](td_config& c) { c.num_layers = 0; }},
        BadConfig{"num_layers is -3; allowed: 1 to 65536", [](td_config& c) { c.num_layers = -3; }},
        BadConfig{"q_heads is 0; it must be at least 1", [](td_config& c) { c.num_q_heads = 0; }},
        BadConfig{"kv_heads is 0; it must be at least 1", [](td_config& c) { c.num_kv_heads = 0; }},
        BadConfig{"q_heads is 4; it must be a multiple of num_kv_heads (3)", [](td_config& c) { c.num_kv_heads = 3; }},
        BadConfig{"is 65; at most 64 query heads may share", [](td_config& c) { c.num_q_heads = 130; }},
        BadConfig{"head_dim_k is 0; allowed: 1 to 1024", [](td_config& c) { c.head_dim_k = 0; }},
        BadConfig{"head_dim_k is 2000; allowed: 1 to 1024", [](td_config& c) { c.head_dim_k = 2000; }},
        BadConfig{"head_dim_v is -1; allowed: 1 to 1024", [](td_config& c) { c.head_dim_v = -1; }},
        BadConfig{"scale is nan; allowed: above 0", [](td_config& c) { c.scale = static_cast<float>(kNaN); }},
        BadConfig{"scale is -1; allowed: above 0", [](td_config& c) { c.scale = -1.f; }},
        BadConfig{"softcap is inf; it must be 0", [](td_config& c) { c.softcap = static_cast<float>(kInfinity); }},
        BadConfig{"sink_tokens is -1; allowed: 0 to", [](td_config& c) { c.sink_tokens = -1; }},
        BadConfig{"local_tokens is 0; allowed: 1 to", [](td_config& c) { c.local_tokens = 0; }},
        BadConfig{"window_dtype is 3; allowed: 0 (f32), 1 (f16), 2 (bf16)", [](td_config& c) { c.window_dtype = 3; }},
        BadConfig{"host_dtype is -1; allowed: 0 (f32), 1 (f16), 2 (bf16), 3 (int8), 4 (k8v4)",
                  [](td_config& c) { c.host_dtype = -1; }},
        BadConfig{"num_threads is -1; allowed: 1 to 1024", [](td_config& c) { c.num_threads = -1; }},
        BadConfig{"num_threads is 1025; allowed: 1 to 1024", [](td_config& c) { c.num_threads = 1025; }},
        BadConfig{"max_tokens is -1; allowed: 1 to 2147483647", [](td_config& c) { c.max_tokens = -1; }},
        BadConfig{"max_tokens is 2147483648; allowed: 1 to",
                  [](td_config& c) { c.max_tokens = std::int64_t{1} << 31; }},
        BadConfig{"host_memory_bytes is -1; it must be positive", [](td_config& c) { c.host_memory_bytes = -1; }},
        BadConfig{"device_timeout_ms is -1; it must be positive", [](td_config& c) { c.device_timeout_ms = -1; }},
        BadConfig{"isa is 'sse2'; allowed: scalar, avx2, avx512, avx512vbmi", [](td_config& c) { c.isa = "sse2"; }},
        BadConfig{"isa is ''; allowed: scalar, avx2, avx512, avx512vbmi", [](td_config& c) { c.isa = ""; }},
        BadConfig{"never_slower is 2; allowed: 1 (on), -1 (off)", [](td_config& c) { c.never_slower = 2; }},
        BadConfig{"auto_split is 2; allowed: 1 (on), -1 (off)", [](td_config& c) { c.auto_split = 2; }},
        BadConfig{"auto_split is on and never_slower is off",
                  [](td_config& c) {
                    c.auto_split = TD_ON;
                    c.never_slower = TD_OFF;
                  }},
        BadConfig{"profile is not JSON: ", [](td_config& c) { c.profile = ""; }},
        BadConfig{"profile is not JSON: {\"dense_row_ns\"", [](td_config& c) { c.profile = "{\"dense_row_ns\""; }},
        BadConfig{"profile is array; it must be an object", [](td_config& c) { c.profile = "[]"; }},
        BadConfig{"profile.dense is not a field; allowed: dense_row_ns, ",
                  [](td_config& c) { c.profile = R"({"dense": 1})"; }},
        BadConfig{"profile.dense_row_ns is \"fast\"; it must be a number",
                  [](td_config& c) { c.profile = R"({"dense_row_ns": "fast"})"; }},
        BadConfig{"profile.dense_row_ns is 0; allowed: 0.001 to 1e+09",
                  [](td_config& c) { c.profile = R"({"dense_row_ns": 0})"; }},
        BadConfig{"profile.selection_ns is -3; allowed", [](td_config& c) { c.profile = R"({"selection_ns": -3})"; }},
        BadConfig{"profile.gathered_row_ns is 1e+300; allowed",
                  [](td_config& c) { c.profile = R"({"gathered_row_ns": 1e300})"; }},
        BadConfig{"profile.lsh_bit_agreement is 1.5; allowed: 0.4 to 1",
                  [](td_config& c) { c.profile = R"({"lsh_bit_agreement": 1.5})"; }},
        BadConfig{"profile.schema is 'machine'; allowed: tandem-machine",
                  [](td_config& c) { c.profile = R"({"schema": "machine", "version": 1, "step_costs": {}})"; }},
        BadConfig{"profile.version is 2; allowed: 1",
                  [](td_config& c) { c.profile = R"({"schema": "tandem-machine", "version": 2, "step_costs": {}})"; }},
        BadConfig{"profile.version is \"1\"; it must be an integer",
                  [](td_config& c) { c.profile = R"({"schema": "tandem-machine", "version": "1"})"; }},
        BadConfig{"profile.step_costs is missing",
                  [](td_config& c) { c.profile = R"({"schema": "tandem-machine", "version": 1, "cpu": {}})"; }},
        BadConfig{"profile.dense_row_ns is -1; allowed", [](td_config& c) {
                    c.profile = R"({"schema": "tandem-machine", "version": 1, "step_costs": {"dense_row_ns": -1}})";
                  }}));

struct BadSelector {
  const char* message;
  void (*spoil)(td_selector&);
};

class Selector : public testing::TestWithParam<BadSelector> {};

TEST_P(Selector, IsRefusedByCreateAndByFork) {
  td_selector s = lsh_selector();
  GetParam().spoil(s);
  td_config c = config();
  c.selector = &s;
  td_rt* none = nullptr;
  EXPECT_EQ(td_create(&c, &none), TD_EINVAL);
  EXPECT_EQ(none, nullptr);
  EXPECT_THAT(td_last_error(), testing::HasSubstr(GetParam().message));
  const Rt rt(config());
  const td_seq seq = create(rt);
  fill(rt, seq, 200, 1);
  const Snapshot before(rt, {seq});
  td_seq fork = 4711;
  EXPECT_EQ(td_seq_fork(rt, seq, -1, &s, &fork), TD_EINVAL);
  EXPECT_EQ(fork, 4711u) << "out was written";
  EXPECT_THAT(td_last_error(), testing::HasSubstr(GetParam().message));
  EXPECT_EQ(Snapshot(rt, {seq}), before);
}

td_selector& sketch(td_selector& s) {
  s.kind = TD_SELECT_SKETCH;
  return s;
}

void top_k(td_selector& s, double budget) {
  s.kind = TD_SELECT_TOP_K;
  s.budget = budget;
}

INSTANTIATE_TEST_SUITE_P(
    Bad, Selector,
    testing::Values(
        BadSelector{"selector.kind is 5; allowed: 0 (all), 1 (top-k), 2 (lsh), 3 (sketch), 4 (sketch top-k)",
                    [](td_selector& s) { s.kind = 5; }},
        BadSelector{"selector.kind is -1; allowed", [](td_selector& s) { s.kind = -1; }},
        BadSelector{"budget is 0; allowed: above 0, up to 1", [](td_selector& s) { top_k(s, 0.0); }},
        BadSelector{"budget is -1; allowed", [](td_selector& s) { top_k(s, -1.0); }},
        BadSelector{"budget is 1.5; allowed", [](td_selector& s) { top_k(s, 1.5); }},
        BadSelector{"budget is nan; allowed", [](td_selector& s) { top_k(s, kNaN); }},
        BadSelector{"budget is inf; allowed", [](td_selector& s) { top_k(s, kInfinity); }},
        BadSelector{"lsh_bits (K) is 13; allowed: 1 to 12", [](td_selector& s) { s.lsh_bits = 13; }},
        BadSelector{"lsh_bits (K) is -1; allowed: 1 to 12", [](td_selector& s) { s.lsh_bits = -1; }},
        BadSelector{"lsh_tables (L) is 301; allowed: 1 to 300", [](td_selector& s) { s.lsh_tables = 301; }},
        BadSelector{"lsh_tables (L) is -1; allowed: 1 to 300", [](td_selector& s) { s.lsh_tables = -1; }},
        BadSelector{"lsh_min_collisions is 3; allowed: 1 or 2", [](td_selector& s) { s.lsh_min_collisions = 3; }},
        BadSelector{"lsh_min_collisions is -1; allowed: 1 or 2", [](td_selector& s) { s.lsh_min_collisions = -1; }},
        BadSelector{"lsh_planes is 2; allowed: 0 (hadamard), 1 (gaussian)", [](td_selector& s) { s.lsh_planes = 2; }},
        BadSelector{"lsh_planes is -1; allowed", [](td_selector& s) { s.lsh_planes = -1; }},
        BadSelector{"lsh_min_collisions is 2; allowed: 1 or 2, not above lsh_tables (1)",
                    [](td_selector& s) { s.lsh_tables = 1; }},
        BadSelector{"budget is -0.1; allowed", [](td_selector& s) { sketch(s).budget = -0.1; }},
        BadSelector{"budget is nan; allowed", [](td_selector& s) { sketch(s).budget = kNaN; }},
        BadSelector{"error is -0.1; allowed: 0", [](td_selector& s) { sketch(s).error = -0.1; }},
        BadSelector{"error is 1; allowed: 0", [](td_selector& s) { sketch(s).error = 1; }},
        BadSelector{"error is nan; allowed: 0", [](td_selector& s) { sketch(s).error = kNaN; }},
        BadSelector{"sketch_bits is 3; allowed: 1, 2, or 0", [](td_selector& s) { sketch(s).sketch_bits = 3; }},
        BadSelector{"sketch_bits is -1; allowed: 1, 2, or 0", [](td_selector& s) { sketch(s).sketch_bits = -1; }},
        BadSelector{"error and unbiased need a random draw",
                    [](td_selector& s) {
                      sketch(s).unbiased = 1;
                      s.kind = TD_SELECT_SKETCH_TOP_K;
                    }},
        BadSelector{"selector.error is 0.1 and selector.kind 4 (sketch_topk), which has none; allowed: 0",
                    [](td_selector& s) {
                      sketch(s).error = 0.1;
                      s.kind = TD_SELECT_SKETCH_TOP_K;
                    }},
        BadSelector{"selector.budget is 0.02 and selector.error 0.1; allowed: one of them, and 0 for the other",
                    [](td_selector& s) {
                      sketch(s).budget = 0.02;
                      s.error = 0.1;
                    }},
        BadSelector{"selector.error is 0.1 and selector.kind 1 (topk), which has none; allowed: 0",
                    [](td_selector& s) {
                      top_k(s, 0.02);
                      s.error = 0.1;
                    }},
        BadSelector{"selector.budget is 0.02 and selector.kind 0 (all), which has none; allowed: 0",
                    [](td_selector& s) {
                      s.kind = TD_SELECT_ALL;
                      s.budget = 0.02;
                    }},
        BadSelector{"selector.error is nan and selector.kind 0 (all), which has none; allowed: 0",
                    [](td_selector& s) {
                      s.kind = TD_SELECT_ALL;
                      s.error = kNaN;
                    }},
        BadSelector{"selector.budget is 0.5 and selector.kind 2 (lsh), which has none; allowed: 0",
                    [](td_selector& s) { s.budget = 0.5; }}));

TEST(Selectors, ZeroMeansTheDefault) {
  td_selector s = lsh_selector(0, 0);
  td_config c = config();
  c.selector = &s;
  const Rt rt(c);
  char text[4096];
  std::size_t needed = 0;
  ASSERT_EQ(td_describe(rt, text, sizeof(text), &needed), TD_OK);
  for (const char* part : {"\"lsh_bits\":10", "\"lsh_tables\":150", "\"lsh_min_collisions\":2",
                           "\"lsh_planes\":\"hadamard\"", "\"seed\":7"}) {
    EXPECT_THAT(text, testing::HasSubstr(part));
  }
}

struct BadJson {
  std::string field;    // appended to the fields of a good configuration
  std::string message;  // a part of the error
};

std::string json_with(const std::string& field) {
  return R"({"num_layers": 2, "num_q_heads": 4, "num_kv_heads": 2, "head_dim_k": 16, "local_tokens": 32, "num_threads": 2)" +
         (field.empty() ? "" : ", " + field) + "}";
}

class Json : public testing::TestWithParam<BadJson> {};

TEST_P(Json, IsRefused) {
  td_rt* rt = nullptr;
  EXPECT_EQ(td_create_json(json_with(GetParam().field).c_str(), &rt), TD_EINVAL);
  EXPECT_EQ(rt, nullptr);
  EXPECT_THAT(td_last_error(), testing::HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Bad, Json,
    testing::Values(
        BadJson{R"("n_layer": 3)", "config.n_layer is not a field; allowed: "},
        BadJson{R"("num_layers": "2")", R"(config.num_layers is "2"; it must be an integer)"},
        BadJson{R"("num_layers": 2.0)", "config.num_layers is 2.0; it must be an integer"},
        BadJson{R"("num_layers": true)", "config.num_layers is true; it must be an integer"},
        BadJson{R"("num_layers": [1])", "config.num_layers is [1]; it must be an integer"},
        BadJson{R"("num_layers": 3000000000)", "config.num_layers is 3000000000; allowed: -2147483648 to 2147483647"},
        BadJson{R"("num_layers": -3000000000)", "config.num_layers is -3000000000; allowed: -2147483648 to 2147483647"},
        BadJson{R"("max_tokens": 18446744073709551615)", "config.max_tokens is 18446744073709551615; allowed: "},
        BadJson{R"("max_tokens": 99999999999999999999)", "config.max_tokens is "},
        BadJson{R"("max_tokens": -1)", "max_tokens is -1; allowed: 1 to 2147483647"},
        BadJson{R"("host_memory_bytes": -1)", "host_memory_bytes is -1; it must be positive"},
        BadJson{R"("scale": "big")", R"(config.scale is "big"; it must be a number)"},
        BadJson{R"("scale": -0.5)", "scale is -0.5; allowed: above 0"},
        BadJson{R"("scale": 1e39)", "scale is inf; allowed: above 0"},
        BadJson{R"("softcap": -1)", "softcap is -1; it must be 0"},
        BadJson{R"("window_dtype": "f8")", "config.window_dtype is 'f8'; allowed: f32, f16, bf16"},
        BadJson{R"("window_dtype": "int8")", "config.window_dtype is 'int8'; allowed: f32, f16, bf16"},
        BadJson{R"("host_dtype": "int4")", "config.host_dtype is 'int4'; allowed: f32, f16, bf16, int8, k8v4"},
        BadJson{R"("host_dtype": 1)", "config.host_dtype is 1; it must be a string"},
        BadJson{R"("isa": "neon")", "isa is 'neon'; allowed: scalar, avx2, avx512, avx512vbmi"},
        BadJson{R"("isa": 5)", "config.isa is 5; it must be a string"}, BadJson{R"("topology": "node:0")", "node:0"},
        BadJson{R"("topology": "nonsense")", "nonsense"},
        BadJson{R"("num_threads": 5000)", "num_threads is 5000; allowed: 1 to 1024"},
        BadJson{R"("never_slower": 1)", "config.never_slower is 1; it must be true or false"},
        BadJson{R"("auto_split": 1)", "config.auto_split is 1; it must be true or false"},
        BadJson{R"("auto_split": true, "never_slower": false)", "auto_split is on and never_slower is off"},
        BadJson{R"("profile": "{}")", "profile is string; it must be an object"},
        BadJson{R"("profile": {"scored_row_ns": 0})", "profile.scored_row_ns is 0; allowed: 0.001 to"},
        BadJson{R"("profile": {"rows": 1})", "profile.rows is not a field; allowed: dense_row_ns"},
        BadJson{R"("selector": "lsh")", "selector is string; it must be an object"},
        BadJson{R"("selector": {"kind": "random"})",
                "selector.kind is 'random'; allowed: all, topk, lsh, sketch, sketch_topk"},
        BadJson{R"("selector": {"kind": "sketch", "unbiased": 1})", "selector.unbiased is 1; it must be true or false"},
        BadJson{R"("selector": {"kind": "sketch", "error": "small"})", "it must be a number"},
        BadJson{R"("selector": {"kind": "sketch", "budget": 2})", "budget is 2; allowed"},
        BadJson{R"("selector": {"kind": "sketch", "budget": 0.02, "error": 0.1})",
                "selector.budget is 0.02 and selector.error 0.1; allowed: one of them"},
        BadJson{R"("selector": {"kind": "sketch_topk", "error": 0.1})", "selector.error is not a field; allowed"},
        BadJson{R"("selector": {"kind": 2})", "selector.kind is 2; it must be a string"},
        BadJson{R"("selector": {"kind": "topk", "budget": 0})", "budget is 0; allowed: above 0"},
        BadJson{R"("selector": {"kind": "topk", "budget": 1.01})", "budget is 1.01; allowed: above 0"},
        BadJson{R"("selector": {"kind": "topk", "lsh_bits": 8})", "selector.lsh_bits is not a field; allowed: budget"},
        BadJson{R"("selector": {"kind": "all", "budget": 0.5})", "selector.budget is not a field; allowed: kind"},
        BadJson{R"("selector": {"kind": "lsh", "lsh_bits": 13})", "lsh_bits (K) is 13; allowed: 1 to 12"},
        BadJson{R"("selector": {"kind": "lsh", "lsh_tables": -1})", "lsh_tables (L) is -1; allowed: 1 to 300"},
        BadJson{R"("selector": {"kind": "lsh", "lsh_min_collisions": 3})", "lsh_min_collisions is 3; allowed: 1 or 2"},
        BadJson{R"("selector": {"kind": "lsh", "lsh_planes": "haar"})",
                "selector.lsh_planes is 'haar'; allowed: hadamard, gaussian"},
        BadJson{R"("selector": {"kind": "lsh", "lsh_planes": 1})", "selector.lsh_planes is 1; it must be a string"},
        BadJson{R"("selector": {"kind": "lsh", "seed": -1})", "selector.seed is -1; allowed: 0 to"}));

TEST(JsonText, ThatIsNoObjectIsRefused) {
  for (const char* text : {"", "{", "nonsense", "{\"num_layers\": 1e999}", "{\"\xff\": 1}", "{}}"}) {
    td_rt* rt = nullptr;
    EXPECT_EQ(td_create_json(text, &rt), TD_EINVAL);
    EXPECT_THAT(td_last_error(), testing::HasSubstr("config is not JSON"));
  }
  for (const char* text : {"[]", "3", "null", "\"text\""}) {
    td_rt* rt = nullptr;
    EXPECT_EQ(td_create_json(text, &rt), TD_EINVAL);
    EXPECT_THAT(td_last_error(), testing::HasSubstr("it must be an object"));
  }
  td_rt* rt = nullptr;
  EXPECT_EQ(td_create_json("{}", &rt), TD_EINVAL);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("layers is 0"));
  EXPECT_EQ(td_create_json(nullptr, &rt), TD_EINVAL);
  EXPECT_STREQ(td_last_error(), "json is NULL");
  EXPECT_EQ(td_create_json("{}", nullptr), TD_EINVAL);
  EXPECT_STREQ(td_last_error(), "out is NULL");
}

class RoundTrip : public testing::TestWithParam<const char*> {};

TEST_P(RoundTrip, ADescribedConfigurationIsTheSameConfiguration) {
  const Rt first(json_with(GetParam()));
  const std::string text = config_text(first);
  const Rt second(text);
  EXPECT_EQ(config_text(second), text);
  const td_seq a = create(first);
  const td_seq b = create(second);
  fill(first, a, 300, 1);
  fill(second, b, 300, 1);
  EXPECT_EQ(attended(first, a), attended(second, b));
}

INSTANTIATE_TEST_SUITE_P(
    Good, RoundTrip,
    testing::Values(
        "", R"("selector": {"kind": "topk", "budget": 0.1})", R"("selector": null, "isa": null)",
        R"("selector": {"kind": "lsh", "lsh_bits": 5, "lsh_tables": 30, "seed": 18446744073709551615})",
        R"("selector": {"kind": "lsh", "lsh_bits": 5, "lsh_tables": 30, "lsh_planes": "gaussian"})",
        R"("selector": {"kind": "sketch", "error": 0.1, "sketch_bits": 2, "unbiased": true, "seed": 5})",
        R"("selector": {"kind": "sketch_topk", "budget": 0.1, "sketch_bits": 1})",
        R"("scale": 0.1, "softcap": 30.5, "window_dtype": "bf16", "host_dtype": "fp16", "sink_tokens": 0)",
        R"("device_timeout_ms": 250)", R"("isa": "scalar", "max_tokens": 300, "host_memory_bytes": 1000000000)",
        R"("topology": "node:2 core:2 pu:1")",
        R"("never_slower": false, "selector": {"kind": "lsh", "lsh_bits": 5, "lsh_tables": 30})",
        R"("auto_split": true, "selector": {"kind": "sketch"})",
        R"("profile": {"dense_row_ns": 1e6, "scored_row_ns": 0.3}, "selector": {"kind": "topk", "budget": 0.1})"));

TEST(Selectors, KindsMayBeSpeltAsOnTheCommandLine) {
  const Rt dash(json_with(R"("selector": {"kind": "sketch-topk", "budget": 0.1})"));
  const Rt underscore(json_with(R"("selector": {"kind": "sketch_topk", "budget": 0.1})"));
  EXPECT_EQ(config_text(dash), config_text(underscore));
}

TEST(Profile, IsPartOfTheResolvedConfiguration) {
  td_config c = config();
  c.never_slower = 0;
  EXPECT_THAT(config_text(Rt(c)), testing::HasSubstr("\"never_slower\":true"));
  c.never_slower = TD_OFF;
  c.profile = R"({"dense_row_ns": 12.5})";
  const std::string text = config_text(Rt(c));
  EXPECT_THAT(text, testing::HasSubstr("\"never_slower\":false"));
  EXPECT_THAT(text, testing::HasSubstr("\"dense_row_ns\":12.5"));
  EXPECT_THAT(text, testing::HasSubstr("\"selection_ns\":"));  // what it does not name keeps its default
}

std::string description_of(td_rt* rt) {
  std::size_t size = 0;
  EXPECT_EQ(td_describe(rt, nullptr, 0, &size), TD_OK);
  std::string text(size, '\0');
  EXPECT_EQ(td_describe(rt, text.data(), size, &size), TD_OK);
  return text;
}

TEST(AutoSplit, IsDescribedWithWhatHasBeenMeasured) {
  td_config c = config();
  c.never_slower = 0;
  const td_selector selector = lsh_selector();
  c.selector = &selector;
  c.profile = R"({"dense_row_ns": 1e6})";
  EXPECT_THAT(config_text(Rt(c)), testing::HasSubstr("\"auto_split\":false"));
  EXPECT_THAT(description_of(Rt(c)), testing::HasSubstr("\"split\":{\"auto\":false,"));
  c.auto_split = TD_ON;
  EXPECT_THAT(config_text(Rt(c)), testing::HasSubstr("\"auto_split\":true"));
  const std::string text = description_of(Rt(c));
  EXPECT_THAT(text, testing::ContainsRegex("\"split\":\\{\"auto\":true,\"crossover_rows\":[0-9]+,"));
  EXPECT_THAT(text,
              testing::HasSubstr("\"measured_steps\":{\"dense\":0,\"selected\":0},\"selecting_over_dense\":1.0}"));
}

TEST(Profile, MayBeAMachineOfWhichTheStepCostsCount) {
  td_config c = config();
  c.profile =
      R"({"schema": "tandem-machine", "version": 1, "name": "x", "cpu": {}, "step_costs": {"dense_row_ns": 12.5},
                  "details": {"notes": []}})";
  EXPECT_THAT(config_text(Rt(c)), testing::HasSubstr("\"dense_row_ns\":12.5"));
}

TEST(Profile, DecidesWhatIsSelected) {
  auto top_k = init<td_selector>();
  top_k.kind = TD_SELECT_TOP_K;
  top_k.budget = 0.1;
  td_config c = config();
  c.selector = &top_k;
  c.never_slower = TD_ON;
  const auto gathered = [&] {
    const Rt rt(c);
    const td_seq seq = create(rt);
    fill(rt, seq, 400, 1);
    Attend attend({seq}, {1}, 3);
    auto stats = init<td_stats>();
    attend.args.stats = &stats;
    EXPECT_EQ(attend.run(rt), TD_OK) << td_last_error();
    EXPECT_EQ(stats.out_error, stats.rows_gathered == stats.rows_host ? 0 : -1);
    return static_cast<double>(stats.rows_gathered) / static_cast<double>(stats.rows_host);
  };
  EXPECT_EQ(gathered(), 1.0);
  c.profile = R"({"dense_row_ns": 1e6, "query_vector_ns": 1e5})";
  EXPECT_LT(gathered(), 0.3);
}

TEST(NullPointers, OfCreateAreRefused) {
  td_rt* rt = nullptr;
  const td_config c = config();
  EXPECT_EQ(td_create(nullptr, &rt), TD_EINVAL);
  EXPECT_STREQ(td_last_error(), "config is NULL");
  EXPECT_EQ(td_create(&c, nullptr), TD_EINVAL);
  EXPECT_STREQ(td_last_error(), "out is NULL");
}

}  // namespace
}  // namespace c_api
