// Indexes whose codes the device makes, through the C ABI: they are those of the host, whatever happens to the device.
#include <string>
#include <vector>

#include "cuda_emulator/emulator.h"
#include "cuda_runtime_api.h"
#include "tests/cuda/runtime_life.h"

namespace c_api {
namespace {

constexpr std::int64_t kPrompt = 1500;

td_selector sketch_selector(int bits = 0, td_selector_kind kind = TD_SELECT_SKETCH) {
  auto s = init<td_selector>();
  s.kind = kind;
  s.budget = 0.1;
  s.sketch_bits = bits;
  s.seed = 7;
  return s;
}

td_selector gaussian_selector() {
  td_selector s = lsh_selector(5, 30);
  s.lsh_planes = TD_PLANES_GAUSSIAN;
  return s;
}

td_config with(const char* device, const td_selector& selector, std::int32_t host_dtype = TD_F32) {
  td_config c = on(device);
  c.num_layers = 1;  // forks are of tokens that every layer holds
  c.selector = &selector;
  c.host_dtype = host_dtype;
  return c;
}

/// out, then lse, of the host tier alone: bits that depend on the selection and the rows, and not on the device.
td_status attend_host(td_rt* rt, td_seq seq, std::int64_t queries, std::vector<float>* outputs,
                      std::uint32_t seed = 9) {
  Attend attend({seq}, {queries}, seed);
  attend.args.parts = TD_PART_DYNAMIC;
  const td_status status = attend.run(rt);
  if (outputs == nullptr) return status;
  EXPECT_EQ(status, TD_OK) << td_last_error();
  outputs->insert(outputs->end(), attend.out.begin(), attend.out.end());
  outputs->insert(outputs->end(), attend.lse.begin(), attend.lse.end());
  return status;
}

void append(td_rt* rt, td_seq seq, std::int64_t tokens, std::uint32_t seed) {
  ASSERT_EQ(Append({seq}, {tokens}, seed).run(rt), TD_OK) << td_last_error();
}

std::int64_t index_bytes(td_rt* rt, td_seq seq) {
  auto info = init<td_seq_info>();
  EXPECT_EQ(td_seq_query(rt, seq, 0, &info), TD_OK) << td_last_error();
  return info.index_bytes;
}

/// A prompt, an index of it, rows that come in bulk and one by one, forks, cuts.
struct IndexLife {
  std::vector<float> outputs;
  std::vector<std::int64_t> bytes;
  friend bool operator==(const IndexLife&, const IndexLife&) = default;

  explicit IndexLife(td_rt* rt) {
    const td_seq a = create(rt);
    append(rt, a, kPrompt, 1);
    for (int warm_up = 0; warm_up < 2; ++warm_up) attend_host(rt, a, 40, &outputs);
    note(rt, a);
    append(rt, a, 700, 2);
    note(rt, a);
    for (std::uint32_t i = 0; i < 3; ++i) {
      append(rt, a, 1, 10 + i);
      note(rt, a);
    }
    td_seq b = 0;
    EXPECT_EQ(td_seq_fork(rt, a, 1237, nullptr, &b), TD_OK) << td_last_error();
    append(rt, b, 1100, 3);
    note(rt, b);
    EXPECT_EQ(td_seq_truncate(rt, a, 1400), TD_OK) << td_last_error();
    append(rt, a, 600, 4);
    note(rt, a);
    note(rt, b);
  }
  void note(td_rt* rt, td_seq seq) {
    attend_host(rt, seq, 2, &outputs);
    bytes.push_back(index_bytes(rt, seq));
  }
};

class CudaIndex : public testing::Test {
 protected:
  void SetUp() override { emulator::reset(); }
  void TearDown() override {
    EXPECT_EQ(emulator::take_fault(), "");
    EXPECT_EQ(emulator::check_leaks(), "");
  }
};

TEST_F(CudaIndex, SelectionsAreThoseOfTheHost) {
  struct Case {
    td_selector selector;
    std::int32_t dtype;
  };
  const Case cases[] = {
      {sketch_selector(), TD_F32},
      {sketch_selector(2), TD_BF16},
      {sketch_selector(1, TD_SELECT_SKETCH_TOP_K), TD_INT8},
      {lsh_selector(), TD_F16},
      {gaussian_selector(), TD_K8V4},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE("selector " + std::to_string(c.selector.kind) + " dtype " + std::to_string(c.dtype));
    const Rt host(with("host", c.selector, c.dtype)), device(with("cuda", c.selector, c.dtype));
    const IndexLife expected(host);
    ASSERT_EQ(IndexLife(device), expected);
    EXPECT_GT(expected.bytes.back(), 0);
  }
}

TEST_F(CudaIndex, TheDeviceCodesManyRowsAndNoFew) {
  for (const td_selector& selector : {sketch_selector(1), gaussian_selector()}) {
    const Rt rt(with("cuda", selector));
    const td_seq seq = create(rt);
    const auto kernels_of_attend = [&](std::int64_t queries) {
      const std::uint64_t before = emulator::counters().kernels;
      EXPECT_EQ(attend_host(rt, seq, queries, nullptr), TD_OK) << td_last_error();
      return emulator::counters().kernels - before;
    };
    append(rt, seq, kPrompt, 1);
    const std::uint64_t first = kernels_of_attend(40), second = kernels_of_attend(2);
    EXPECT_EQ(first + second, kKvHeads * ((kPrompt - kLocal - kSinks + 1023) / 1024)) << "pieces of each head";
    append(rt, seq, 600, 2);
    EXPECT_EQ(kernels_of_attend(2), kKvHeads);
    append(rt, seq, 400, 3);
    EXPECT_EQ(kernels_of_attend(2), 0u);
  }
}

TEST_F(CudaIndex, WithoutDeviceMemoryTheHostCodes) {
  static std::vector<std::string> messages;
  messages.clear();
  td_set_log(
      [](int level, const char* message, void*) {
        if (level == 2) messages.emplace_back(message);
      },
      nullptr);
  struct Case {
    td_selector selector;
    std::vector<int> allocations;  // that succeed before one that does not
  };
  const Case cases[] = {{sketch_selector(), {0, 2, 4, 7}}, {gaussian_selector(), {0, 7}}};
  for (const auto& [selector, allocations] : cases) {
    const Rt host(with("host", selector));
    const IndexLife expected(host);
    for (const int after : allocations) {
      const Rt device(with("cuda", selector));
      const td_seq seq = create(device);
      append(device, seq, kPrompt, 1);
      std::vector<float> outputs;
      emulator::fail_next("cudaMalloc", cudaErrorMemoryAllocation, after);
      for (int step = 0; step < 2; ++step) attend_host(device, seq, 40, &outputs);
      attend_host(device, seq, 2, &outputs);
      append(device, seq, 700, 2);  // for which there is memory
      attend_host(device, seq, 2, &outputs);
      EXPECT_TRUE(std::equal(outputs.begin(), outputs.end(), expected.outputs.begin()));
      emulator::reset();  // where fewer allocations were made
    }
  }
  td_set_log(nullptr, nullptr);
  EXPECT_THAT(messages, testing::Contains(testing::HasSubstr("the CPU codes them")).Times(1));
}

TEST_F(CudaIndex, ADeviceThatIsLostWhileItCodesClosesTheRuntime) {
  for (const td_selector& selector : {sketch_selector(), lsh_selector()}) {
    for (const char* call : {"kernel", "cudaMemcpyAsync"}) {
      emulator::reset();
      const Rt rt(with("cuda", selector));
      const td_seq seq = create(rt);
      append(rt, seq, kPrompt, 1);
      emulator::fail_next(call, cudaErrorECCUncorrectable, 1);
      td_status status = TD_OK;
      for (int step = 0; step < 3 && status == TD_OK; ++step) status = attend_host(rt, seq, 40, nullptr);
      EXPECT_EQ(status, TD_EDEVICE);
      EXPECT_THAT(td_last_error(), testing::HasSubstr("cudaErrorECCUncorrectable"));
      EXPECT_EQ(attend_host(rt, seq, 1, nullptr), TD_ESTATE);
      EXPECT_EQ(td_seq_destroy(rt, seq), TD_OK);
    }
  }
}

/// Tokens and attention over both tiers until a calibration beside the steps is in use; outputs of the host tier.
std::vector<float> growth(td_rt* rt) {
  std::vector<float> outputs;
  const td_seq seq = create(rt);
  append(rt, seq, kPrompt, 1);
  for (int warm_up = 0; warm_up < 2; ++warm_up) attend_host(rt, seq, 40, &outputs);
  for (std::uint32_t step = 0; step < 18; ++step) {
    append(rt, seq, 400, 100 + step);
    attended(rt, seq, 1);
    attend_host(rt, seq, 1, &outputs);
  }
  return outputs;
}

TEST_F(CudaIndex, CalibrationsBesideTheStepsAreThoseOfTheHost) {
  const td_selector selector = sketch_selector();
  const Rt host(with("host", selector));
  const std::vector<float> expected = growth(host);
  for (const char* hand_off : {"flag", "host_call", "event"}) {
    SCOPED_TRACE(hand_off);
    emulator::Config machine;
    machine.progress = hand_off[0] == 'f' ? emulator::Progress::eager : emulator::Progress::late;
    machine.late_after_ms = 1;
    machine.max_delay_us = 50;
    emulator::reset(machine);
    td_config c = with("cuda", selector);
    c.hand_off = hand_off;
    const Rt rt(c);
    EXPECT_EQ(growth(rt), expected);
  }
}

TEST_F(CudaIndex, ADeviceThatIsLostBesideTheStepsClosesTheRuntime) {
  const td_selector selector = sketch_selector();
  for (int after = 0; after < 4; ++after) {
    emulator::reset();
    const Rt rt(with("cuda", selector));
    const td_seq seq = create(rt);
    append(rt, seq, kPrompt, 1);
    for (int warm_up = 0; warm_up < 2; ++warm_up) EXPECT_EQ(attend_host(rt, seq, 40, nullptr), TD_OK);
    for (std::uint32_t step = 0; step < 10; ++step) {
      append(rt, seq, 400, 100 + step);
      EXPECT_EQ(attend_host(rt, seq, 1, nullptr), TD_OK) << td_last_error();
    }
    append(rt, seq, 400, 200);  // four times the rows of the first calibration
    emulator::fail_next("kernel", cudaErrorECCUncorrectable, after);
    td_status status = TD_OK;
    for (std::uint32_t step = 0; step < 6 && status == TD_OK; ++step) {
      status = attend_host(rt, seq, 1, nullptr);
      if (status == TD_OK) status = Append({seq}, {400}, 300 + step).run(rt);
    }
    EXPECT_EQ(status, TD_EDEVICE);
    EXPECT_EQ(attend_host(rt, seq, 1, nullptr), TD_ESTATE);
  }
}

}  // namespace
}  // namespace c_api
