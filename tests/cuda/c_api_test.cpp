// Devices that are not there, have no memory, fail or hang, through the C ABI.
#include <cmath>
#include <string>
#include <vector>

#include "cuda_emulator/emulator.h"
#include "cuda_runtime_api.h"
#include "tests/cuda/runtime_life.h"

namespace c_api {
namespace {

class CudaRuntime : public testing::Test {
 protected:
  void SetUp() override { emulator::reset(); }
  void TearDown() override {
    EXPECT_EQ(emulator::take_fault(), "");
    EXPECT_EQ(emulator::check_leaks(), "");
  }
};

std::string refusal(const td_config& c, td_status expected) {
  td_rt* rt = nullptr;
  EXPECT_EQ(td_create(&c, &rt), expected);
  EXPECT_EQ(rt, nullptr);
  return td_last_error();
}

TEST_F(CudaRuntime, AgreesWithTheHostWhateverTheHandOff) {
  const Rt host(on("host"));
  const std::vector<float> expected = life(host);
  for (const char* hand_off : {"flag", "host_call", "event"}) {
    for (const auto progress : {emulator::Progress::eager, emulator::Progress::late}) {
      start_machine(progress);
      td_config c = on("cuda:1");
      c.hand_off = hand_off;
      const Rt rt(c);
      EXPECT_NE(config_text(rt).find(std::string("\"hand_off\":\"") + hand_off), std::string::npos);
      const std::vector<float> outputs = life(rt);
      ASSERT_EQ(outputs.size(), expected.size());
      for (std::size_t i = 0; i < outputs.size(); ++i)
        ASSERT_NEAR(outputs[i], expected[i], 2e-6) << hand_off << " " << i;
    }
  }
}

TEST_F(CudaRuntime, StepsThatAreReplayedHaveTheSameBits) {
  for (const auto progress : {emulator::Progress::eager, emulator::Progress::late}) {
    start_machine(progress);
    td_config c = on("cuda");
    const Rt direct(c);
    c.graphs = TD_ON;
    const Rt replayed(c);
    EXPECT_EQ(life(replayed), life(direct));
    const td_seq a = create(direct), b = create(replayed);
    fill(direct, a, 100, 1);
    fill(replayed, b, 100, 1);
    int with_graph = 0;
    for (std::uint32_t step = 0; step < 80; ++step) {  // pages leave, and items come and go
      fill(direct, a, 1, 10 + step);
      fill(replayed, b, 1, 10 + step);
      EXPECT_EQ(attended(replayed, b, 1), attended(direct, a, 1)) << step;
      if (emulator::live().graphs > 0) ++with_graph;
    }
    EXPECT_GT(with_graph, 60);
  }
}

TEST_F(CudaRuntime, StepsForWhoseGraphThereIsNoMemoryAreLaunchedAsBefore) {
  td_config c = on("cuda");
  c.graphs = TD_ON;
  const Rt rt(c);
  const td_seq seq = create(rt);
  fill(rt, seq, 100, 1);
  const std::vector<float> expected = attended(rt, seq, 1);
  const int graphs = emulator::live().graphs;  // of the appends, it may be
  constexpr int kRefused = 6;                  // each submission has a graph of its own
  for (int call = 0; call < kRefused; ++call)
    emulator::fail_next("cudaGraphInstantiateWithFlags", cudaErrorMemoryAllocation, call);
  for (int step = 0; step < 10; ++step) EXPECT_EQ(attended(rt, seq, 1), expected);
  EXPECT_LE(emulator::live().graphs, graphs);
  emulator::reset();
  emulator::fail_next("cudaGraphInstantiateWithFlags", cudaErrorUnknown);
  td_status status = TD_OK;
  for (int step = 0; step < 10 && status == TD_OK; ++step) status = Attend({seq}, {2}, 99).run(rt);
  EXPECT_EQ(status, TD_EDEVICE);
}

TEST_F(CudaRuntime, NamesWhatIsAllowed) {
  EXPECT_THAT(refusal(on("cuda:2"), TD_EINVAL), testing::HasSubstr("device is cuda:2; allowed: cuda:0 to cuda:1"));
  for (const char* text : {"gpu", "", "cuda:", "cuda:-1", "cuda:1x", "cuda1", "cuda:99999999999"})
    EXPECT_THAT(refusal(on(text), TD_EINVAL), testing::HasSubstr("allowed: host, cuda, cuda:0"));
  td_config c = on("cuda");
  c.hand_off = "pigeon";
  EXPECT_THAT(refusal(c, TD_EINVAL), testing::HasSubstr("allowed: flag, host_call, event"));
  c = on("cuda");
  c.head_dim_v = 257;
  EXPECT_THAT(refusal(c, TD_EUNSUPPORTED), testing::HasSubstr("head_dim up to 256"));
}

TEST_F(CudaRuntime, SaysWhyThereIsNoDevice) {
  emulator::Config machine;
  machine.num_devices = 0;
  emulator::reset(machine);
  EXPECT_THAT(refusal(on("cuda"), TD_EUNSUPPORTED), testing::HasSubstr("no CUDA device"));
  machine.driver_version = 11040;
  emulator::reset(machine);
  EXPECT_THAT(refusal(on("cuda"), TD_EUNSUPPORTED), testing::HasSubstr("the driver knows CUDA 11.4"));
  machine.driver_version = 0;
  emulator::reset(machine);
  EXPECT_THAT(refusal(on("cuda"), TD_EUNSUPPORTED), testing::HasSubstr("no CUDA driver"));
}

TEST_F(CudaRuntime, CreationIsWholeOrNotAtAll) {
  int refused = 0;
  for (int allocations = 0; allocations < 100; ++allocations) {
    emulator::reset();
    emulator::fail_next("cudaMalloc", cudaErrorMemoryAllocation, allocations);
    const td_config c = on("cuda");
    td_rt* rt = nullptr;
    if (td_create(&c, &rt) == TD_OK) {
      td_destroy(rt);
      break;
    }
    EXPECT_THAT(td_last_error(), testing::HasSubstr("bytes free"));
    EXPECT_EQ(emulator::check_leaks(), "");
    ++refused;
  }
  emulator::reset();
  EXPECT_GT(refused, 5);
  EXPECT_LT(refused, 100);
}

TEST_F(CudaRuntime, SequencesAreRefusedUntilThereIsMemoryAgain) {
  const Rt rt(on("cuda"));
  const td_seq first = create(rt);
  fill(rt, first, 100, 1);
  const Snapshot before(rt, {first});
  for (const int after : {0, 1, 3}) {
    emulator::fail_next("cudaMalloc", cudaErrorMemoryAllocation, after);
    td_seq seq = 42;
    EXPECT_EQ(td_seq_create(rt, &seq), TD_ENOMEM);
    EXPECT_EQ(td_seq_fork(rt, first, -1, nullptr, &seq), TD_OK) << td_last_error();
    EXPECT_EQ(td_seq_destroy(rt, seq), TD_OK);
  }
  EXPECT_EQ(Snapshot(rt, {first}), before);
}

TEST_F(CudaRuntime, AnAppendThatFindsNoMemoryChangesNothing) {
  td_config c = on("cuda");
  auto policy = init<td_window_policy>();
  policy.kind = TD_POLICY_THRESHOLD;
  policy.kept_tokens = 500;
  policy.scores = TD_SCORES_ATTENTION;
  policy.threshold = 0;
  c.window_policy = &policy;
  const Rt rt(c);
  const td_seq seq = create(rt);
  int refused = 0;
  for (std::uint32_t i = 0; i < 40; ++i) {
    for (std::int32_t layer = 0; layer < kLayers; ++layer) {
      emulator::fail_next("cudaMalloc", cudaErrorMemoryAllocation, static_cast<int>(i % 2));
      const Snapshot before(rt, {seq}, false);
      Append append({seq}, {16}, i, layer);
      const td_status status = append.run(rt);
      emulator::reset();  // where the call did not come so far
      if (status == TD_ENOMEM) {
        ++refused;
        EXPECT_EQ(Snapshot(rt, {seq}, false), before);
        EXPECT_EQ(append.run(rt), TD_OK) << td_last_error();
      } else {
        EXPECT_EQ(status, TD_OK) << td_last_error();
      }
      attended(rt, seq, 1, layer);
    }
  }
  EXPECT_GT(refused, 5);
}

TEST_F(CudaRuntime, AnAttendThatFindsNoMemoryCanBeRepeated) {
  const Rt rt(on("cuda")), other(on("cuda"));
  const td_seq seq = create(rt), reference = create(other);
  fill(rt, seq, 100, 1);
  fill(other, reference, 100, 1);
  emulator::fail_next("cudaMalloc", cudaErrorMemoryAllocation);
  Attend attend({seq}, {2}, 99);
  EXPECT_EQ(attend.run(rt), TD_ENOMEM);
  EXPECT_EQ(attended(rt, seq), attended(other, reference));
}

TEST_F(CudaRuntime, AppendsFollowAttendsThatFoundNoMemory) {
  const Rt rt(on("cuda")), other(on("cuda"));
  const td_seq seq = create(rt), reference = create(other);
  fill(rt, seq, 100, 1);
  fill(other, reference, 100, 1);
  for (int i = 0; i < 80; ++i) {  // each has planned tens of kilobytes for the device before it is refused
    emulator::fail_next("cudaMalloc", cudaErrorMemoryAllocation);
    Attend attend({seq}, {100}, 99);
    EXPECT_EQ(attend.run(rt), TD_ENOMEM);
  }
  fill(rt, seq, 1, 3);
  fill(other, reference, 1, 3);
  EXPECT_EQ(attended(rt, seq), attended(other, reference));
}

TEST_F(CudaRuntime, WorksWithoutPinnedMemory) {
  static std::vector<std::string> messages;
  messages.clear();
  td_set_log(
      [](int level, const char* message, void*) {
        if (level == 2) messages.emplace_back(message);
      },
      nullptr);
  const Rt pinned(on("cuda"));
  const std::vector<float> expected = life(pinned);
  for (int call = 0; call < 50; ++call) emulator::fail_next("cudaHostAlloc", cudaErrorMemoryAllocation, call);
  const Rt pageable(on("cuda"));
  EXPECT_EQ(life(pageable), expected);
  td_set_log(nullptr, nullptr);
  EXPECT_THAT(messages, testing::Contains(testing::HasSubstr("pageable")));
}

TEST_F(CudaRuntime, ALostDeviceClosesItsRuntimesAndNoOther) {
  const Rt first(on("cuda:0")), second(on("cuda:0")), elsewhere(on("cuda:1"));
  const td_seq a = create(first), b = create(second), c = create(elsewhere);
  fill(first, a, 100, 1);
  fill(second, b, 100, 1);
  fill(elsewhere, c, 100, 1);
  const std::vector<float> expected = attended(elsewhere, c);
  EXPECT_EQ(attended(first, a), expected);
  emulator::lose_device(0, cudaErrorECCUncorrectable);
  Attend attend({a}, {2}, 99);
  EXPECT_EQ(attend.run(first), TD_EDEVICE);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("cudaErrorECCUncorrectable"));
  EXPECT_EQ(attend.run(first), TD_ESTATE);
  EXPECT_EQ(td_seq_destroy(first, a), TD_OK);
  Attend other({b}, {1}, 99);
  EXPECT_EQ(other.run(second), TD_EDEVICE);
  EXPECT_EQ(attended(elsewhere, c), expected);
}

TEST_F(CudaRuntime, AnEnginesCaptureGoesOnMeanwhile) {
  const Rt rt(on("cuda"));
  const td_seq seq = create(rt);
  fill(rt, seq, 100, 1);
  const std::vector<float> expected = attended(rt, seq);
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(attended(rt, seq), expected);
  const td_seq other = create(rt);
  fill(rt, other, 1, 2);
  EXPECT_EQ(td_seq_destroy(rt, other), TD_OK);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(CudaRuntime, EndsWithWorkInFlight) {
  emulator::Config machine;
  machine.progress = emulator::Progress::late;
  machine.max_delay_us = 200;
  emulator::reset(machine);
  const Rt rt(on("cuda"));
  fill(rt, create(rt), 150, 1);
}

TEST(CudaWatchdog, ADeviceThatHangsIsGivenUpWithBothSidesEpochs) {
  emulator::Config machine;
  machine.max_delay_us = 400'000;
  emulator::reset(machine);
  td_config c = on("cuda");
  c.device_timeout_ms = 1;
  td_rt* rt = nullptr;
  ASSERT_EQ(td_create(&c, &rt), TD_OK) << td_last_error();
  const td_seq seq = create(rt);
  Append append({seq}, {100}, 1);
  td_status status = append.run(rt);
  Attend attend({seq}, {2}, 99);
  if (status == TD_OK) status = attend.run(rt);
  EXPECT_EQ(status, TD_EDEVICE);
  EXPECT_THAT(td_last_error(), testing::ContainsRegex("epoch [0-9]+ within 1 ms .*: it is at [0-9]+, .* up to [0-9]+"));
  EXPECT_EQ(attend.run(rt), TD_ESTATE);
  td_destroy(rt);
  EXPECT_GT(emulator::live().device_allocations, 0) << "to give memory back it has to wait for the device";
}

}  // namespace
}  // namespace c_api
