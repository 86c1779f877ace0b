#include "tools/llama/llama.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>

#include <nlohmann/json.hpp>

#include "runtime/base/dtype.h"
#include "tests/tools/files.h"
#include "tools/formats/trace.h"
#include "tools/llama/stats.h"

namespace tandem::llama {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;
using testing::write_bytes;
using Json = nlohmann::json;

const std::filesystem::path kModel = std::filesystem::path(TANDEM_DATA_DIR) / "tiny-llama";
constexpr const char* kText = "The pass key is 58213. Remember it. 58213 is the pass key. The pass key is 5";

std::vector<std::int32_t> with_bos(const Llama& model, std::string_view text) {
  std::vector<std::int32_t> tokens = encode_bytes(text);
  tokens.insert(tokens.begin(), model.config().bos_token);
  return tokens;
}

/// The model's runtime, with a window so small that longer prompts also have rows in the host tier.
td_config config_of(const Llama& model) {
  auto config = model.attention_config();
  config.sink_tokens = 2;
  config.local_tokens = 4;
  config.num_threads = 2;
  return config;
}

/// A model with the runtime and the one sequence that most tests need; attention is exact.
struct Session {
  explicit Session(const std::filesystem::path& folder = kModel) : model(Llama::load(folder)) { set_blas_threads(1); }

  AttentionUse use() { return {runtime, sequence, TD_PART_ALL | TD_EXACT, nullptr, {}, {}, false}; }
  void expect_length(std::int64_t tokens) const {
    for (std::int32_t layer = 0; layer < 4; ++layer) EXPECT_EQ(sequence.length(layer), tokens) << "layer " << layer;
  }

  Llama model;
  td::Runtime runtime{config_of(model)};
  td::Sequence sequence{runtime};
};

TEST(Llama, ReadsTheConfig) {
  const auto model = Llama::load(kModel);
  const LlamaConfig& config = model.config();
  EXPECT_EQ(config.num_layers, 4);
  EXPECT_EQ(config.hidden_size, 256);
  EXPECT_EQ(config.intermediate_size, 512);
  EXPECT_EQ(config.num_q_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.vocab_size, 264);
  EXPECT_EQ(config.max_positions, 16384);
  EXPECT_EQ(config.rms_norm_eps, 1e-5f);
  EXPECT_EQ(config.rope_theta, 1e6f);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.bos_token, 256);
  EXPECT_EQ(config.eos_token, 257);
  EXPECT_EQ(model.attention_config().num_kv_heads, 2);
}

/// The expected logits come from a separate double-precision implementation in numpy.
TEST(Llama, LogitsMatchAnIndependentImplementation) {
  Session session;
  const auto logits = session.model.forward(session.use(), with_bos(session.model, kText));
  ASSERT_EQ(logits.size(), 264u);
  const std::vector<std::pair<std::size_t, float>> expected = {
      {56, 14.55395f}, {49, 7.75848f},   {55, 7.5675f},   {52, 7.53569f},  {0, -5.22346f},
      {32, 1.02732f},  {48, 6.85944f},   {57, 7.47794f},  {101, 0.60368f}, {116, -0.00613f},
      {256, 1.19135f}, {257, -2.48554f}, {263, -6.0281f},
  };
  for (const auto& [token, logit] : expected) EXPECT_NEAR(logits[token], logit, 1e-3) << "token " << token;
  double sum = 0;
  double squares = 0;
  for (const float logit : logits) {
    sum += logit;
    squares += double{logit} * logit;
  }
  EXPECT_NEAR(sum, -963.70484, 0.05);
  EXPECT_NEAR(std::sqrt(squares), 81.691178, 1e-3);
  EXPECT_EQ(argmax(logits), '8');
}

class LlamaChunks : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(LlamaChunks, DoNotChangeTheResult) {
  Session whole;
  const auto tokens = with_bos(whole.model, kText);
  const auto expected = whole.model.forward(whole.use(), tokens);

  Session session;
  std::vector<std::int64_t> progress;
  auto use = session.use();
  use.progress = [&](std::int64_t done) { progress.push_back(done); };
  const auto logits = session.model.forward(use, tokens, GetParam());
  for (std::size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(logits[i], expected[i], 2e-4) << i;
  const std::int64_t total = std::ssize(tokens);
  EXPECT_EQ(std::ssize(progress), (total + GetParam() - 1) / GetParam());
  EXPECT_EQ(progress.front(), std::min(GetParam(), total));
  EXPECT_EQ(progress.back(), total);
  session.expect_length(total);
}

INSTANTIATE_TEST_SUITE_P(Sizes, LlamaChunks, ::testing::Values(1, 7, 76, 77, 78, 100000));

std::string generate(Session& session, const std::vector<std::int32_t>& prompt, std::size_t count) {
  auto logits = session.model.forward(session.use(), prompt);
  std::string text;
  while (true) {
    const std::int32_t token = argmax(logits);
    text += decode_byte(token);
    if (text.size() == count) return text;
    logits = session.model.forward(session.use(), {token});
  }
}

TEST(Llama, AnswersNeedlePrompts) {
  std::ifstream file(std::filesystem::path(TANDEM_DATA_DIR) / "needle_prompts.jsonl");
  std::string line;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(std::getline(file, line));
    const Json prompt = Json::parse(line);
    const auto text = prompt["context"].get<std::string>() + prompt["question"].get<std::string>();
    const auto answer = prompt["answer"].get<std::string>();
    Session session;
    EXPECT_EQ(generate(session, with_bos(session.model, text), answer.size()), answer) << prompt["id"];
  }
}

TEST(Llama, RefusesInputBeforeAnythingIsAppended) {
  Session session;
  const auto refuse = [&](const std::vector<std::int32_t>& tokens, std::int64_t chunk,
                          const std::vector<std::string>& parts) {
    const std::int64_t length = session.sequence.length(0);
    expect_error(ErrorCode::invalid_argument, parts, [&] { session.model.forward(session.use(), tokens, chunk); });
    session.expect_length(length);
  };
  refuse({}, 512, {"tokens is empty"});
  refuse({1}, 0, {"chunk_tokens is 0"});
  refuse({1, 264}, 512, {"264", "0 to 263"});
  refuse({1, -1}, 1, {"-1", "0 to 263"});
  refuse(std::vector<std::int32_t>(16385), 512, {"16385", "16384"});
  session.model.forward(session.use(), {256, 65});
  refuse(std::vector<std::int32_t>(16383), 512, {"2 tokens", "16383", "16384"});
}

TEST(Llama, RefusesLayersOfUnequalLength) {
  Session session;
  const float row[128] = {};
  const std::int64_t one = 1;
  const td_seq id = session.sequence.id();
  auto append = td::make<td_append_args>();
  append.layer = 2;
  append.num_seqs = 1;
  append.seqs = &id;
  append.num_tokens = &one;
  append.k = append.v = td::tensor(row, TD_F32, 1, 2, 64);
  session.runtime.append(append);
  expect_error(ErrorCode::invalid_state, {"1 tokens in layer 2"}, [&] { session.model.forward(session.use(), {256}); });
}

TEST(Llama, SumsStatsOverLayersAndChunks) {
  Session session;
  auto stats = td::make<td_stats>();
  auto use = session.use();
  use.stats = &stats;
  session.model.forward(use, std::vector<std::int32_t>(10, 65), 4);
  EXPECT_EQ(stats.keys_visible, 4 * 4 * (10 * 11 / 2));
  EXPECT_EQ(stats.bytes[TD_APPEND], 4 * 10 * 2 * 2 * 64 * 4);
}

TEST(Llama, StatsKeepTheWorstEstimate) {
  auto total = td::make<td_stats>();
  auto step = td::make<td_stats>();
  step.num_workers = 2;
  for (double td_stats::*error : {&td_stats::lse_error, &td_stats::out_error}) {
    for (const auto& [added, expected] : {std::pair{0.25, 0.25}, {0.125, 0.25}, {-1.0, -1.0}, {0.5, -1.0}}) {
      step.*error = added;
      add_stats(total, step);
      EXPECT_EQ(total.*error, expected);
    }
  }
  EXPECT_EQ(total.num_workers, 2);
}

/// The fields after size and num_workers, 8 bytes each.
using StatsFields = std::array<std::int64_t, (sizeof(td_stats) - offsetof(td_stats, us)) / 8>;

StatsFields fields_of(const td_stats& stats) {
  StatsFields fields;
  std::memcpy(fields.data(), stats.us, sizeof(fields));
  return fields;
}

TEST(Llama, StatsAddUpEveryField) {
  auto step = td::make<td_stats>();
  step.num_workers = 2;
  StatsFields fields;
  for (std::size_t i = 0; i < fields.size(); ++i)  // as doubles all of these are a little above 1
    fields[i] = std::bit_cast<std::int64_t>(1.0) + static_cast<std::int64_t>(i + 1);
  std::memcpy(step.us, fields.data(), sizeof(fields));
  auto total = td::make<td_stats>();
  add_stats(total, step);
  EXPECT_EQ(total.num_workers, 2);
  EXPECT_EQ(fields_of(total), fields);
}

/// A prompt in chunks and decode steps, recorded, written and read again.
TEST(Llama, RecordsATraceThatReproducesItsOutput) {
  Session session;
  const LlamaConfig& config = session.model.config();
  tools::TraceRecorder recorder({0, 0, config.num_q_heads, config.num_kv_heads, config.head_dim, 0, 0.125f, {0, 3}},
                                DType::f16);
  const auto tokens = with_bos(session.model, kText);
  std::vector<float> last_out;
  auto use = session.use();
  use.round_kv_to_f16 = true;
  use.recorder = [&](const AttentionRecord& record) {
    if (record.layer != 0 && record.layer != 3) return;
    if (record.first_position < std::ssize(tokens)) {
      recorder.add_prompt(record.layer, record.tokens, record.k, record.v);
      return;
    }
    recorder.add_step(record.layer, record.q, record.k, record.v, record.out, record.lse);
    for (int i = 0; i < 128; ++i) EXPECT_EQ(record.k[i], f16_to_f32(f32_to_f16(record.k[i])));
    last_out.assign(record.out, record.out + 256);
  };
  session.model.forward(use, tokens, 20);
  for (const std::int32_t token : {'8', '2', '1'}) session.model.forward(use, {token});

  TemporaryFolder folder;
  recorder.write(folder / "t");
  const auto trace = tools::load_trace(folder / "t");
  EXPECT_EQ(trace.meta.tokens, std::ssize(tokens));
  EXPECT_EQ(trace.meta.steps, 3);
  const auto out = trace.layers.at(1).dec_out.to_f32();
  for (std::size_t head = 0; head < 4; ++head) {
    for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(out[(head * 3 + 2) * 64 + i], last_out[head * 64 + i]);
  }
}

/// The tiny model with one config field changed or, for null, taken away.
class ChangedModel {
 public:
  ChangedModel(const std::string& field, const Json& value) {
    std::filesystem::create_symlink(kModel / "model.safetensors", folder_ / "model.safetensors");
    Json config = Json::parse(testing::read_bytes(kModel / "config.json"));
    if (field == "rope_parameters.rope_type") {
      config["rope_parameters"]["rope_type"] = value;
    } else if (value.is_null()) {
      config.erase(field);
    } else {
      config[field] = value;
    }
    write_bytes(folder_ / "config.json", config.dump());
  }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
};

TEST(LlamaConfig, RefusesWhatIsNotSupported) {
  const std::vector<std::pair<std::string, Json>> changes = {
      {"rope_scaling", {{"rope_type", "llama3"}}},
      {"attention_bias", true},
      {"mlp_bias", true},
      {"hidden_act", "gelu"},
      {"model_type", "gemma"},
      {"rope_parameters.rope_type", "yarn"},
      {"partial_rotary_factor", 0.5},
  };
  for (const auto& [field, value] : changes) {
    const ChangedModel changed(field, value);
    expect_error(ErrorCode::unsupported, {"config.json", field}, [&] { Llama::load(changed.path()); });
  }
}

TEST(LlamaConfig, RefusesImpossibleFields) {
  const std::vector<std::pair<std::string, Json>> changes = {
      {"num_hidden_layers", 0},    {"num_hidden_layers", nullptr}, {"hidden_size", "256"},
      {"num_attention_heads", 3},  {"num_key_value_heads", 3},     {"head_dim", 63},
      {"vocab_size", nullptr},     {"rms_norm_eps", -1},           {"rope_theta", 0},
      {"bos_token_id", 264},       {"attention_bias", "no"},       {"max_position_embeddings", 1e9},
      {"intermediate_size", -512}, {"tie_word_embeddings", 1},
  };
  for (const auto& [field, value] : changes) {
    SCOPED_TRACE(field + " = " + value.dump());
    const ChangedModel changed(field, value);
    expect_error(ErrorCode::io, {"config.json", field}, [&] { Llama::load(changed.path()); });
  }
}

TEST(LlamaConfig, NamesTheTensorThatDoesNotFit) {
  const std::vector<std::tuple<std::string, Json, std::string>> changes = {
      {"num_hidden_layers", 5, "model.layers.4.input_layernorm.weight"},
      {"head_dim", 32, "model.layers.0.self_attn.q_proj.weight"},
      {"vocab_size", 300, "model.embed_tokens.weight"},
      {"tie_word_embeddings", false, "lm_head.weight"},
  };
  for (const auto& [field, value, tensor] : changes) {
    const ChangedModel changed(field, value);
    expect_error(ErrorCode::io, {"model.safetensors", tensor}, [&] { Llama::load(changed.path()); });
  }
  TemporaryFolder empty;
  expect_error(ErrorCode::io, {"config.json"}, [&] { Llama::load(empty.path()); });
}

TEST(LlamaConfig, FillsInDefaults) {
  const ChangedModel no_theta("rope_theta", nullptr);
  EXPECT_EQ(Llama::load(no_theta.path()).config().rope_theta, 1e6f);  // from rope_parameters
  const ChangedModel no_dim("head_dim", nullptr);
  EXPECT_EQ(Llama::load(no_dim.path()).config().head_dim, 64);
  const ChangedModel no_bos("bos_token_id", nullptr);
  EXPECT_EQ(Llama::load(no_bos.path()).config().bos_token, -1);
}

TEST(LlamaTokens, AreBytes) {
  EXPECT_EQ(encode_bytes("a\xff"), (std::vector<std::int32_t>{97, 255}));
  EXPECT_EQ(decode_byte(255), '\xff');
  EXPECT_EQ(decode_byte(256), '\0');
  EXPECT_EQ(decode_byte(-1), '\0');
  EXPECT_EQ(argmax({1.f, 3.f, 3.f, 2.f}), 1);
}

}  // namespace
}  // namespace tandem::llama
