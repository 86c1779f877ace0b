#include "tools/formats/trace.h"

#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "tests/tools/files.h"

namespace tandem::tools {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;
using testing::write_bytes;
using Json = nlohmann::json;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// 3 prompt tokens, 2 steps, 4:2 heads, head_dim 4 (K) and 2 (V); values that every dtype holds exactly.
TraceMeta small_meta() { return {3, 2, 4, 2, 4, 2, 0.5f, {1, 5}}; }

float value_at(std::int32_t layer, std::int64_t token, std::int64_t head, std::int64_t i) {
  return static_cast<float>(layer + 16 * token + 4 * head + i) * 0.5f;
}

std::vector<float> rows(std::int32_t layer, std::int64_t first, std::int64_t tokens, std::int64_t heads,
                        std::int64_t dim) {
  std::vector<float> values;
  for (std::int64_t token = first; token < first + tokens; ++token) {
    for (std::int64_t head = 0; head < heads; ++head) {
      for (std::int64_t i = 0; i < dim; ++i) values.push_back(value_at(layer, token, head, i));
    }
  }
  return values;
}

void add_prompt(TraceRecorder& recorder, std::int32_t layer, std::int64_t first, std::int64_t tokens) {
  recorder.add_prompt(layer, tokens, rows(layer, first, tokens, 2, 4).data(), rows(layer, first, tokens, 2, 2).data());
}

void add_prompt_with_queries(TraceRecorder& recorder, std::int32_t layer, std::int64_t first, std::int64_t tokens) {
  recorder.add_prompt(layer, tokens, rows(layer, first, tokens, 2, 4).data(), rows(layer, first, tokens, 2, 2).data(),
                      rows(layer, first, tokens, 4, 4).data());
}

void add_step(TraceRecorder& recorder, std::int32_t layer, std::int64_t step) {
  recorder.add_step(layer, rows(layer, step, 1, 4, 4).data(), rows(layer, step, 1, 2, 4).data(),
                    rows(layer, step, 1, 2, 2).data(), rows(layer, step, 1, 4, 2).data(),
                    rows(layer, step, 1, 4, 1).data());
}

void write_small_trace(const std::filesystem::path& folder, DType dtype = DType::f16) {
  TraceRecorder recorder(small_meta(), dtype);
  for (const std::int32_t layer : {1, 5}) {
    add_prompt(recorder, layer, 0, 1);
    add_prompt(recorder, layer, 1, 2);
    add_step(recorder, layer, 0);
    add_step(recorder, layer, 1);
  }
  recorder.write(folder);
}

void expect_rows(const Tensor& tensor, std::int32_t layer, std::int64_t heads, std::int64_t tokens, std::int64_t dim) {
  const std::vector<float> values = tensor.to_f32();
  ASSERT_EQ(std::ssize(values), heads * tokens * dim);
  for (std::int64_t i = 0; i < std::ssize(values); ++i) {
    const std::int64_t head = i / (tokens * dim);
    EXPECT_EQ(values[static_cast<std::size_t>(i)], value_at(layer, i / dim % tokens, head, i % dim)) << i;
  }
}

class TraceRoundTrip : public ::testing::TestWithParam<DType> {};

TEST_P(TraceRoundTrip, KeepsRowsInHeadOrder) {
  TemporaryFolder folder;
  write_small_trace(folder / "trace", GetParam());
  const Trace trace = load_trace(folder / "trace");
  EXPECT_EQ(trace.meta.tokens, 3);
  EXPECT_EQ(trace.meta.steps, 2);
  EXPECT_EQ(trace.meta.head_dim_k, 4);
  EXPECT_EQ(trace.meta.head_dim_v, 2);
  EXPECT_EQ(trace.meta.scale, 0.5f);
  ASSERT_EQ(trace.layers.size(), 2u);
  const TraceLayer& layer = trace.layers[1];
  EXPECT_EQ(layer.layer, 5);
  EXPECT_EQ(layer.k.dtype, GetParam());
  EXPECT_EQ(layer.dec_out.dtype, DType::f32);
  EXPECT_EQ(layer.dec_lse.shape, (std::vector<std::int64_t>{4, 2}));
  expect_rows(layer.k, 5, 2, 3, 4);
  expect_rows(layer.v, 5, 2, 3, 2);
  expect_rows(layer.dec_q, 5, 4, 2, 4);
  expect_rows(layer.dec_k, 5, 2, 2, 4);
  expect_rows(layer.dec_v, 5, 2, 2, 2);
  expect_rows(layer.dec_out, 5, 4, 2, 2);
  expect_rows(layer.dec_lse, 5, 4, 2, 1);
}

INSTANTIATE_TEST_SUITE_P(DTypes, TraceRoundTrip, ::testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& instance) { return to_string(instance.param); });

/// Exact attention of decode step `step`, query head `head`, in double precision: out and log-sum-exp.
std::vector<double> attend(const TraceMeta& meta, const TraceLayer& layer, std::int64_t head, std::int64_t step) {
  const std::int64_t dim = meta.head_dim_k;
  const std::int64_t kv = head / (meta.num_q_heads / meta.num_kv_heads);
  static const auto floats = [](const Tensor& t, std::int64_t row, std::int64_t width) {
    std::vector<float> values(static_cast<std::size_t>(width));
    load_f32(t.dtype, t.data + row * width * static_cast<std::int64_t>(bytes_of(t.dtype)), values.data(), width);
    return values;
  };
  const auto q = floats(layer.dec_q, head * meta.steps + step, dim);
  std::vector<double> result(static_cast<std::size_t>(dim) + 1);
  double sum = 0;
  for (std::int64_t j = 0; j <= meta.tokens + step; ++j) {
    const bool prompt = j < meta.tokens;
    const std::int64_t row = prompt ? kv * meta.tokens + j : kv * meta.steps + j - meta.tokens;
    const auto k = floats(prompt ? layer.k : layer.dec_k, row, dim);
    const auto v = floats(prompt ? layer.v : layer.dec_v, row, dim);
    double logit = 0;
    for (std::size_t i = 0; i < q.size(); ++i) logit += double{q[i]} * k[i];
    const double weight = std::exp(logit * meta.scale);
    sum += weight;
    for (std::size_t i = 0; i < v.size(); ++i) result[i] += weight * v[i];
  }
  for (double& x : result) x /= sum;
  result.back() = std::log(sum);
  return result;
}

TEST(Trace, GoldenTraceHoldsExactAttention) {
  const Trace trace = load_trace(std::string(TANDEM_DATA_DIR) + "/golden_trace");
  EXPECT_EQ(trace.meta.tokens, 8192);
  EXPECT_EQ(trace.meta.layers, std::vector<std::int32_t>{2});
  const TraceLayer& layer = trace.layers.at(0);
  const auto out = layer.dec_out.to_f32();
  const auto lse = layer.dec_lse.to_f32();
  for (std::int64_t head = 0; head < 4; ++head) {
    for (const std::int64_t step : {0, 31, 63}) {
      const auto expected = attend(trace.meta, layer, head, step);
      const std::int64_t row = head * trace.meta.steps + step;
      EXPECT_NEAR(lse[static_cast<std::size_t>(row)], expected.back(), 1e-4);
      for (std::int64_t i = 0; i < 64; ++i) {
        EXPECT_NEAR(out[static_cast<std::size_t>(row * 64 + i)], expected[static_cast<std::size_t>(i)], 2e-4);
      }
    }
  }
}

TEST(Trace, ExactResultsAreOptional) {
  TemporaryFolder folder;
  write_small_trace(folder / "t");
  const auto path = folder / "t/layer1.safetensors";
  const auto file = SafetensorsFile::open(path);
  auto tensors = file.tensors();
  tensors.erase("dec_out");
  tensors.erase("dec_lse");
  tensors["further"] = tensors["k"];
  write_safetensors(path, tensors);
  const Trace trace = load_trace(folder / "t");
  EXPECT_EQ(trace.layers[0].dec_out.data, nullptr);
  EXPECT_EQ(trace.layers[0].dec_lse.data, nullptr);
  EXPECT_NE(trace.layers[1].dec_out.data, nullptr);
}

TEST(Trace, KeepsTheQueriesOfTheLastPromptTokens) {
  TemporaryFolder folder;
  constexpr std::int64_t kTokens = kMaxQueryTail + 6;
  TraceRecorder recorder(small_meta(), DType::f32);
  for (const std::int32_t layer : {1, 5}) {
    add_prompt(recorder, layer, 0, 1);
    if (layer == 5) {
      add_prompt_with_queries(recorder, layer, 1, 7);
      add_prompt_with_queries(recorder, layer, 8, kTokens - 8);
      expect_error(ErrorCode::invalid_state, {"layer 5", "q is missing"}, [&] { add_prompt(recorder, 5, 9, 1); });
    } else {
      add_prompt(recorder, layer, 1, kTokens - 1);
    }
    add_step(recorder, layer, 0);
  }
  recorder.write(folder / "t");
  const Trace trace = load_trace(folder / "t");
  EXPECT_EQ(trace.layers[0].q_tail.data, nullptr);
  const Tensor& tail = trace.layers[1].q_tail;
  ASSERT_EQ(tail.shape, (std::vector<std::int64_t>{4, kMaxQueryTail, 4}));
  const auto values = tail.to_f32();
  for (const std::int64_t token : {std::int64_t{0}, kMaxQueryTail - 1}) {
    const std::int64_t row = 2 * kMaxQueryTail + token;  // of head 2
    for (std::int64_t i = 0; i < 4; ++i)
      EXPECT_EQ(values[static_cast<std::size_t>(row * 4 + i)], value_at(5, token + 6, 2, i));
  }
}

TEST(Trace, GoldenTraceHasQueriesOfThePrompt) {
  const Trace trace = load_trace(std::string(TANDEM_DATA_DIR) + "/golden_trace");
  const Tensor& tail = trace.layers.at(0).q_tail;
  ASSERT_EQ(tail.shape, (std::vector<std::int64_t>{4, 128, 64}));
}

TEST(Trace, RejectsImpossibleMeta) {
  TemporaryFolder folder;
  write_small_trace(folder / "t");
  const auto path = folder / "t/meta.json";
  const Json good = Json::parse(testing::read_bytes(path));
  const std::vector<std::pair<std::string, Json>> changes = {
      {"T", 0},           {"T", "3"},
      {"T", 3.5},         {"T", 1ll << 40},
      {"steps", 0},       {"steps", -1},
      {"H", 3},           {"H", 0},
      {"KV", 0},          {"KV", 3},
      {"KV", 5},          {"H", 1024},
      {"head_dim", 0},    {"head_dim", 100000},
      {"scale", 0},       {"scale", "x"},
      {"scale", -1},      {"head_dim_v", 0},
      {"layers", 1},      {"layers", {-1}},
      {"layers", {1, 1}}, {"layers", Json::array()},
      {"layers", {1.5}},
  };
  for (const auto& [field, value] : changes) {
    SCOPED_TRACE(field + " = " + value.dump());
    Json bad = good;
    bad[field] = value;
    write_bytes(path, bad.dump());
    expect_error(ErrorCode::io, {"meta.json", field, "allowed"}, [&] { load_trace(folder / "t"); });
  }
  for (const char* field : {"T", "steps", "H", "KV", "head_dim", "scale", "layers"}) {
    Json bad = good;
    bad.erase(field);
    write_bytes(path, bad.dump());
    expect_error(ErrorCode::io, {"meta.json", field, "missing"}, [&] { load_trace(folder / "t"); });
  }
  expect_error(ErrorCode::io, {"absent/meta.json"}, [&] { load_trace(folder / "absent"); });
}

/// Rewrites one tensor of layer 1 and expects loading to fail.
void expect_rejected(const std::string& name, const Tensor& replacement, const std::vector<std::string>& message) {
  SCOPED_TRACE(name);
  TemporaryFolder folder;
  write_small_trace(folder / "t");
  const auto path = folder / "t/layer1.safetensors";
  const auto file = SafetensorsFile::open(path);
  auto tensors = file.tensors();
  tensors.erase(name);
  if (!replacement.shape.empty()) tensors[name] = replacement;
  write_safetensors(path, tensors);
  std::vector<std::string> parts = {"layer1.safetensors", "'" + name + "'"};
  parts.insert(parts.end(), message.begin(), message.end());
  expect_error(ErrorCode::io, parts, [&] { load_trace(folder / "t"); });
}

TEST(Trace, RejectsMissingMisshapenAndNonFiniteTensors) {
  const std::vector<float> zeros(64, 0.f);
  const auto* data = reinterpret_cast<const std::byte*>(zeros.data());
  for (const char* name : {"k", "v", "dec_q", "dec_k", "dec_v"}) {
    expect_rejected(name, {}, {"no tensor"});
    expect_rejected(name, {DType::f32, {6, 4}, data}, {"[6, 4]", "allowed: ["});
  }
  expect_rejected("k", {DType::f32, {3, 2, 4}, data}, {"[3, 2, 4]", "[2, 3, 4]"});
  expect_rejected("dec_out", {DType::f32, {4, 2, 4}, data}, {"[4, 2, 4]", "[4, 2, 2]"});
  expect_rejected("q_tail", {DType::f32, {4, 4, 4}, data}, {"4 tokens", "1 to 3"});
  expect_rejected("q_tail", {DType::f32, {4, 16}, data}, {"three dimensions"});
  expect_rejected("q_tail", {DType::f32, {2, 3, 4}, data}, {"[2, 3, 4]", "[4, 3, 4]"});
  expect_rejected("dec_lse", {DType::f32, {4, 2, 1}, data}, {"[4, 2, 1]", "[4, 2]"});
  expect_rejected("dec_lse", {DType::f16, {4, 2}, data}, {"f16", "allowed: f32"});
  for (const float bad : {kInfinity, -kInfinity, std::nanf("")}) {
    std::vector<float> values = zeros;
    values[5] = bad;
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    expect_rejected("k", {DType::f32, {2, 3, 4}, bytes}, {"NaN or infinity", "finite"});
    expect_rejected("v", {DType::f32, {2, 3, 2}, bytes}, {"NaN or infinity", "finite"});
    expect_rejected("dec_q", {DType::f32, {4, 2, 4}, bytes}, {"NaN or infinity", "finite"});
    expect_rejected("dec_out", {DType::f32, {4, 2, 2}, bytes}, {"NaN or infinity", "finite"});
  }
}

TEST(Trace, NamesAMissingLayerFile) {
  TemporaryFolder folder;
  write_small_trace(folder / "t");
  std::filesystem::remove(folder / "t/layer5.safetensors");
  expect_error(ErrorCode::io, {"layer5.safetensors"}, [&] { load_trace(folder / "t"); });
}

TEST(TraceRecorder, RefusesWhatWouldNotLoad) {
  TemporaryFolder folder;
  TraceMeta meta = small_meta();
  meta.num_q_heads = 3;
  expect_error(ErrorCode::invalid_argument, {"num_q_heads"}, [&] { TraceRecorder(meta, DType::f16); });
  TraceRecorder recorder(small_meta(), DType::f16);
  expect_error(ErrorCode::invalid_argument, {"layer 2"}, [&] { add_step(recorder, 2, 0); });
  add_prompt(recorder, 1, 0, 3);
  expect_error(ErrorCode::invalid_state, {"0 steps"}, [&] { recorder.write(folder / "t"); });
  add_step(recorder, 1, 0);
  expect_error(ErrorCode::invalid_state, {"layer 5"}, [&] { recorder.write(folder / "t"); });
  expect_error(ErrorCode::invalid_state, {"layer 1"}, [&] { add_prompt(recorder, 1, 0, 3); });
  const std::vector<float> large(24, 1e5f);
  recorder.add_prompt(5, 3, large.data(), large.data());
  add_step(recorder, 5, 0);
  expect_error(ErrorCode::invalid_argument, {"layer 5", "k", "too large for f16"},
               [&] { recorder.write(folder / "t"); });
  EXPECT_FALSE(std::filesystem::exists(folder / "t"));
}

TEST(TraceRecorder, LeavesFilledFoldersAlone) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "empty");
  EXPECT_NO_THROW(write_small_trace(folder / "empty"));
  expect_error(ErrorCode::io, {"empty", "not empty"}, [&] { write_small_trace(folder / "empty"); });
  write_bytes(folder / "file", "x");
  expect_error(ErrorCode::io, {"file"}, [&] { write_small_trace(folder / "file"); });
}

}  // namespace
}  // namespace tandem::tools
