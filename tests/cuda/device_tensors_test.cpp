// Engines whose tensors lie on the GPU, in order with a stream of theirs, through the C ABI.
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cuda_emulator/emulator.h"
#include "cuda_runtime_api.h"
#include "tests/cuda/runtime_life.h"

namespace c_api {
namespace {

/// An engine's stream.
class EngineStream {
 public:
  EngineStream() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess); }
  EngineStream(const EngineStream&) = delete;
  EngineStream& operator=(const EngineStream&) = delete;
  ~EngineStream() { (void)cudaStreamDestroy(stream_); }  // an error where the device is lost
  operator cudaStream_t() const { return stream_; }      // NOLINT: tests read better

 private:
  cudaStream_t stream_ = nullptr;
};

/// Floats on the GPU that an engine's stream writes and reads; pinned memory on the host stands for its kernels.
class EngineTensor {
 public:
  explicit EngineTensor(std::size_t size) : bytes_(size * sizeof(float)), size_(size) {
    EXPECT_EQ(cudaMalloc(&device_, bytes_), cudaSuccess);
    EXPECT_EQ(cudaHostAlloc(&host_, bytes_, 0), cudaSuccess);
  }
  EngineTensor(const EngineTensor&) = delete;
  EngineTensor& operator=(const EngineTensor&) = delete;
  ~EngineTensor() {
    (void)cudaFree(device_);
    (void)cudaFreeHost(host_);
  }
  void write(const std::vector<float>& values, cudaStream_t stream) {
    std::copy(values.begin(), values.end(), static_cast<float*>(host_));
    EXPECT_EQ(cudaMemcpyAsync(device_, host_, bytes_, cudaMemcpyHostToDevice, stream), cudaSuccess);
  }
  [[nodiscard]] std::vector<float> read(cudaStream_t stream) {
    EXPECT_EQ(cudaMemcpyAsync(host_, device_, bytes_, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    const auto* values = static_cast<const float*>(host_);
    return {values, values + size_};
  }
  [[nodiscard]] float* data() const { return static_cast<float*>(device_); }

 private:
  void *device_ = nullptr, *host_ = nullptr;
  std::size_t bytes_, size_;
};

void on_gpu(td_tensor& tensor, const EngineTensor& data) {
  tensor.data = data.data();
  tensor.memory = TD_MEMORY_DEVICE;
}

/// What the stream does before it goes on, as a long kernel would.
void keep_busy(cudaStream_t stream, int milliseconds) {
  static int busy_ms;
  busy_ms = milliseconds;
  EXPECT_EQ(
      cudaLaunchHostFunc(
          stream, [](void* ms) { std::this_thread::sleep_for(std::chrono::milliseconds(*static_cast<int*>(ms))); },
          &busy_ms),
      cudaSuccess);
}

/// An append and an attend whose tensors an engine's stream makes, and takes.
struct EngineStep {
  Append append;
  Attend attend;
  EngineTensor k, v, append_q, q, out, lse;

  EngineStep(td_seq seq, std::int64_t tokens, std::int64_t queries, std::uint32_t seed, std::int32_t layer)
      : append({seq}, {tokens}, seed, layer),
        attend({seq}, {queries}, seed + 50, layer),
        k(append.k.size()),
        v(append.v.size()),
        append_q(append.k.size() * kQHeads / kKvHeads),
        q(attend.q.size()),
        out(attend.out.size()),
        lse(attend.lse.size()) {
    append.with_queries();
  }
  void to_gpu(cudaStream_t stream) {
    on_gpu(append.args.k, k);
    on_gpu(append.args.v, v);
    on_gpu(append.args.q, append_q);
    on_gpu(attend.args.q, q);
    on_gpu(attend.args.out, out);
    attend.args.lse = lse.data();
    append.args.stream = attend.args.stream = stream;
  }
  std::vector<float> run(td_rt* rt) {
    EXPECT_EQ(append.run(rt), TD_OK) << td_last_error();
    EXPECT_EQ(attend.run(rt), TD_OK) << td_last_error();
    std::vector<float> results = attend.out;
    results.insert(results.end(), attend.lse.begin(), attend.lse.end());
    return results;
  }
  std::vector<float> run(td_rt* rt, cudaStream_t stream, int busy_ms = 0) {
    to_gpu(stream);
    if (busy_ms > 0) keep_busy(stream, busy_ms);
    k.write(append.k, stream);
    v.write(append.v, stream);
    append_q.write(append.q, stream);
    EXPECT_EQ(append.run(rt), TD_OK) << td_last_error();
    if (busy_ms > 0) keep_busy(stream, busy_ms);
    q.write(attend.q, stream);
    EXPECT_EQ(attend.run(rt), TD_OK) << td_last_error();
    std::vector<float> results = out.read(stream);
    const std::vector<float> lses = lse.read(stream);
    results.insert(results.end(), lses.begin(), lses.end());
    return results;
  }
};

class DeviceTensors : public testing::Test {
 protected:
  void SetUp() override {
    emulator::reset();
    leaks_ = emulator::check_leaks();
  }
  void TearDown() override {
    EXPECT_EQ(emulator::take_fault(), "");
    EXPECT_EQ(emulator::check_leaks(), leaks_);
  }

 private:
  std::string leaks_;  // of tests that leave a device behind
};

TEST_F(DeviceTensors, HaveTheBitsOfHostTensors) {
  for (const char* hand_off : {"flag", "host_call", "event"}) {
    for (const auto progress : {emulator::Progress::eager, emulator::Progress::late}) {
      start_machine(progress);
      td_config c = on("cuda:1");
      c.hand_off = hand_off;
      ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
      const Rt by_host(c), by_device(c);
      const td_seq a = create(by_host), b = create(by_device);
      const EngineStream stream;
      std::uint32_t seed = 1;
      for (const std::int64_t tokens : {150, 1, 1, 70}) {
        for (std::int32_t layer = 0; layer < kLayers; ++layer, seed += 3) {
          EngineStep host(a, tokens, std::min<std::int64_t>(tokens, 3), seed, layer);
          EngineStep device(b, tokens, std::min<std::int64_t>(tokens, 3), seed, layer);
          EXPECT_EQ(device.run(by_device, stream), host.run(by_host)) << hand_off << " " << seed;
        }
      }
    }
  }
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

TEST_F(DeviceTensors, AreReadWhenTheirStreamHasMadeThem) {
  const Rt rt(on("cuda")), other(on("cuda"));
  const td_seq seq = create(rt), reference = create(other);
  const EngineStream stream;
  EngineStep device(seq, 100, 2, 5, 0), host(reference, 100, 2, 5, 0);
  EXPECT_EQ(device.run(rt, stream, 70), host.run(other));
}

TEST_F(DeviceTensors, AreWrittenAfterWhatTheirStreamDidBefore) {
  const Rt rt(on("cuda"));
  const td_seq seq = create(rt);
  fill(rt, seq, 100, 1);
  const std::vector<float> expected = attended(rt, seq);
  const EngineStream stream;
  Attend attend({seq}, {2}, 99);
  EngineTensor out(attend.out.size());
  keep_busy(stream, 30);
  out.write(attend.out, stream);  // of a buffer that has been used for something else
  on_gpu(attend.args.out, out);
  attend.args.lse = nullptr;
  attend.args.stream = stream;
  EXPECT_EQ(attend.run(rt), TD_OK) << td_last_error();
  EXPECT_EQ(out.read(stream), std::vector<float>(expected.begin(), expected.begin() + 2 * kQHeads * kDim));
}

TEST_F(DeviceTensors, MayComeWithTheDefaultStream) {
  const Rt rt(on("cuda")), other(on("cuda"));
  const td_seq seq = create(rt), reference = create(other);
  EngineStep device(seq, 100, 2, 5, 0), host(reference, 100, 2, 5, 0);
  const EngineStream stream;
  device.k.write(device.append.k, stream);
  device.v.write(device.append.v, stream);
  device.append_q.write(device.append.q, stream);
  device.q.write(device.attend.q, stream);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  device.to_gpu(nullptr);
  EXPECT_EQ(device.append.run(rt), TD_OK) << td_last_error();
  EXPECT_EQ(device.attend.run(rt), TD_OK) << td_last_error();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  std::vector<float> expected = host.run(other);
  expected.resize(host.attend.out.size());
  EXPECT_EQ(device.out.read(stream), expected);
}

TEST_F(DeviceTensors, MixWithHostTensors) {
  const Rt rt(on("cuda")), other(on("cuda"));
  const td_seq seq = create(rt), reference = create(other);
  const EngineStream stream;
  EngineStep mixed(seq, 100, 2, 5, 0), host(reference, 100, 2, 5, 0);
  const std::vector<float> expected = host.run(other);
  mixed.v.write(mixed.append.v, stream);
  on_gpu(mixed.append.args.v, mixed.v);
  mixed.append.args.stream = stream;
  EXPECT_EQ(mixed.append.run(rt), TD_OK) << td_last_error();
  on_gpu(mixed.attend.args.out, mixed.out);  // q stays
  mixed.attend.args.lse = nullptr;
  mixed.attend.args.stream = stream;
  EXPECT_EQ(mixed.attend.run(rt), TD_OK) << td_last_error();
  EXPECT_EQ(mixed.out.read(stream), std::vector<float>(expected.begin(), expected.begin() + 2 * kQHeads * kDim));
}

TEST_F(DeviceTensors, ThreadsWithStreamsOfTheirOwnDoNotWaitForEachOther) {
  const Rt rt(on("cuda")), other(on("cuda"));
  constexpr std::size_t kThreads = 3;
  std::vector<td_seq> seqs, references;
  for (std::size_t i = 0; i < kThreads; ++i) {
    seqs.push_back(create(rt));
    references.push_back(create(other));
  }
  std::vector<std::thread> threads;
  std::vector<std::vector<float>> results(kThreads);
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const EngineStream stream;
      for (std::uint32_t step = 0; step < 4; ++step) {
        EngineStep work(seqs[i], 40, 2, static_cast<std::uint32_t>(i) + 10 * step, 0);
        results[i] = work.run(rt, stream);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < kThreads; ++i) {
    std::vector<float> expected;
    for (std::uint32_t step = 0; step < 4; ++step)
      expected = EngineStep(references[i], 40, 2, static_cast<std::uint32_t>(i) + 10 * step, 0).run(other);
    EXPECT_EQ(results[i], expected) << i;
  }
}

TEST_F(DeviceTensors, ACallThatWaitsForItsStreamHoldsUpNoOther) {
  const Rt rt(on("cuda"));
  const td_seq waits = create(rt), goes_on = create(rt);
  const EngineStream busy, idle;
  EngineStep first(waits, 40, 2, 5, 0), second(goes_on, 40, 2, 5, 0);  // whose memory is given back when all is over
  EngineStep warm(goes_on, 40, 2, 1, 0);
  warm.run(rt, idle);
  std::atomic<bool> may_end{false}, has_ended{false};
  cudaLaunchHostFunc(
      busy,
      [](void* flag) {
        while (!*static_cast<std::atomic<bool>*>(flag)) std::this_thread::yield();
      },
      &may_end);
  std::thread waiting([&] {
    first.run(rt, busy);
    has_ended = true;
  });
  second.run(rt, idle);
  EXPECT_FALSE(has_ended);
  may_end = true;
  waiting.join();
}

TEST_F(DeviceTensors, BegunCallsOverlapWithWhatOtherStreamsAreGiven) {
  const Rt rt(on("cuda")), other(on("cuda"));
  const td_seq seqs[] = {create(rt), create(rt)}, references[] = {create(other), create(other)};
  const EngineStream streams[2];  // of two half batches
  EngineStep halves[] = {{seqs[0], 40, 2, 5, 0}, {seqs[1], 40, 2, 9, 0}};
  EngineStep expected[] = {{references[0], 40, 2, 5, 0}, {references[1], 40, 2, 9, 0}};
  std::atomic<bool> may_go_on{false};  // what the second half is given before its inputs: weights, as it were
  cudaLaunchHostFunc(
      streams[1],
      [](void* flag) {
        while (!*static_cast<std::atomic<bool>*>(flag)) std::this_thread::yield();
      },
      &may_go_on);
  td_call appends[2], attends[2];
  for (int i : {0, 1}) {
    EngineStep& half = halves[i];
    half.to_gpu(streams[i]);
    half.k.write(half.append.k, streams[i]);
    half.v.write(half.append.v, streams[i]);
    half.append_q.write(half.append.q, streams[i]);
    half.q.write(half.attend.q, streams[i]);
    ASSERT_EQ(td_append_begin(rt, &half.append.args, &appends[i]), TD_OK) << td_last_error();
    ASSERT_EQ(td_attend_begin(rt, &half.attend.args, &attends[i]), TD_OK) << td_last_error();
  }
  const auto results = [&](int i) {
    EXPECT_EQ(td_call_wait(rt, appends[i]), TD_OK) << td_last_error();
    EXPECT_EQ(td_call_wait(rt, attends[i]), TD_OK) << td_last_error();
    std::vector<float> found = halves[i].out.read(streams[i]);
    const std::vector<float> lses = halves[i].lse.read(streams[i]);
    found.insert(found.end(), lses.begin(), lses.end());
    return found;
  };
  EXPECT_EQ(results(0), expected[0].run(other));  // while the second half's stream stands still
  std::int32_t ended = 1;
  EXPECT_EQ(td_call_test(rt, appends[1], &ended), TD_OK);
  EXPECT_EQ(ended, 0);
  may_go_on = true;
  EXPECT_EQ(results(1), expected[1].run(other));
}

TEST_F(DeviceTensors, OfTheWrongMemoryAreRefused) {
  const Rt host(on("host")), first(on("cuda:0")), second(on("cuda:1"));
  const EngineStream stream;
  const auto refused = [&](td_rt* rt, const auto& spoil) {
    EngineStep step(create(rt), 10, 2, 5, 0);
    step.k.write(step.append.k, stream);
    step.v.write(step.append.v, stream);
    step.append_q.write(step.append.q, stream);
    step.to_gpu(stream);
    spoil(step.append.args);
    EXPECT_EQ(step.append.run(rt), TD_EINVAL);
    std::int64_t length = -1;
    EXPECT_EQ(td_seq_length(rt, step.append.seqs[0], 0, &length), TD_OK);
    EXPECT_EQ(length, 0);
    return std::string(td_last_error());
  };
  const auto nothing = [](td_append_args&) {};
  EXPECT_THAT(refused(host, nothing), testing::HasSubstr("k.memory is 1 (TD_MEMORY_DEVICE), but the runtime's device"));
  EXPECT_THAT(refused(second, nothing), testing::HasSubstr("k.data is memory of cuda:0; allowed: memory of cuda:1"));
  std::vector<float> pageable(1000);
  EXPECT_THAT(refused(first, [&](td_append_args& a) { a.v.data = pageable.data(); }),
              testing::HasSubstr("v.memory is 1 (TD_MEMORY_DEVICE), but its data is host memory"));
  EXPECT_THAT(refused(first,
                      [](td_append_args& a) {
                        a.q.data = nullptr;
                        a.k.data = nullptr;
                      }),
              testing::HasSubstr("k.data is NULL"));
  EXPECT_THAT(refused(first, [](td_append_args& a) { a.k.memory = 2; }), testing::HasSubstr("k.memory is 2; allowed"));
  EXPECT_THAT(refused(first, [](td_append_args& a) { a.k.shape[1] = 3; }), testing::HasSubstr("k has 3 heads"));
  const auto odd = testing::HasSubstr("not a multiple of 4 bytes");
  EXPECT_THAT(refused(first, [](td_append_args& a) { a.k.data = static_cast<char*>(a.k.data) + 1; }), odd);
  EXPECT_THAT(refused(first,
                      [](td_append_args& a) {
                        a.v.shape[0] = 10;
                        a.v.stride[0] = kKvHeads * kDim * 4 + 2;
                        a.v.stride[1] = kDim * 4;
                      }),
              odd);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  {
    const EngineStream other;
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    EXPECT_THAT(refused(first, [&](td_append_args& a) { a.stream = other; }),
                testing::HasSubstr("stream is not a stream of cuda:0"));
    EXPECT_THAT(emulator::take_fault(), testing::HasSubstr("different devices"));
  }
}

TEST_F(DeviceTensors, AreCheckedAsHostTensorsAre) {
  const Rt rt(on("cuda"));
  const td_seq seq = create(rt);
  const EngineStream stream;
  EngineStep step(seq, 10, 2, 5, 0);
  step.append.v[3 * kKvHeads * kDim + kDim] = std::nanf("");
  step.to_gpu(stream);
  step.k.write(step.append.k, stream);
  step.v.write(step.append.v, stream);
  step.append_q.write(step.append.q, stream);
  EXPECT_EQ(step.append.run(rt), TD_EINVAL);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("v holds NaN or infinity in token 3, head 1"));
  EXPECT_EQ(EngineStep(seq, 10, 2, 5, 0).append.run(rt), TD_OK) << td_last_error();
  step.attend.q[7] = INFINITY;
  step.q.write(step.attend.q, stream);
  EXPECT_EQ(step.attend.run(rt), TD_EINVAL);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("q holds NaN or infinity in token 0, head 0"));
}

TEST_F(DeviceTensors, AStreamThatIsCapturedIsRefusedAndItsCaptureGoesOn) {
  const Rt rt(on("cuda"));
  const EngineStream stream;
  EngineStep step(create(rt), 10, 2, 5, 0);
  step.to_gpu(stream);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(step.append.run(rt), TD_EUNSUPPORTED);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("is being captured in a graph"));
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TEST_F(DeviceTensors, WithoutMemoryForTheirCopiesNothingChanges) {
  td_config c = on("cuda");
  const Rt rt(c), other(c);
  const td_seq seq = create(rt), reference = create(other);
  const EngineStream stream;
  EngineStep step(seq, 100, 2, 5, 0);
  step.append.args.k.stride[0] = 2 * kKvHeads * kDim * 4;  // not dense: copied on the device first
  step.append.args.k.stride[1] = kDim * 4;
  EngineTensor spread(2 * step.append.k.size());
  std::vector<float> rows(2 * step.append.k.size());
  for (std::size_t t = 0; t < 100; ++t)
    std::copy_n(&step.append.k[t * kKvHeads * kDim], kKvHeads * kDim, &rows[2 * t * kKvHeads * kDim]);
  spread.write(rows, stream);
  step.v.write(step.append.v, stream);
  step.to_gpu(stream);
  step.append.args.q = {};
  on_gpu(step.append.args.k, spread);
  for (const int after : {0, 1}) {
    emulator::fail_next("cudaMalloc", cudaErrorMemoryAllocation, after);
    EXPECT_EQ(step.append.run(rt), TD_ENOMEM);
    std::int64_t length = -1;
    EXPECT_EQ(td_seq_length(rt, seq, 0, &length), TD_OK);
    EXPECT_EQ(length, 0);
  }
  EXPECT_EQ(step.append.run(rt), TD_OK) << td_last_error();
  EXPECT_EQ(Append({reference}, {100}, 5).run(other), TD_OK);
  EXPECT_EQ(attended(rt, seq), attended(other, reference));
}

TEST_F(DeviceTensors, ALostDeviceClosesTheRuntime) {
  const Rt rt(on("cuda"));
  const td_seq seq = create(rt);
  {
    const EngineStream stream;
    EngineStep step(seq, 10, 2, 5, 0);
    step.to_gpu(stream);
    emulator::lose_device(0, cudaErrorECCUncorrectable);
    EXPECT_EQ(step.append.run(rt), TD_EDEVICE);
    EXPECT_THAT(td_last_error(), testing::HasSubstr("cudaErrorECCUncorrectable"));
    EXPECT_EQ(step.append.run(rt), TD_ESTATE);
  }
}

TEST(DeviceTensorWatchdog, ADeviceThatHangsIsGivenUp) {
  emulator::Config machine;
  machine.max_delay_us = 400'000;
  emulator::reset(machine);
  td_config c = on("cuda");
  c.device_timeout_ms = 1;
  td_rt* rt = nullptr;
  ASSERT_EQ(td_create(&c, &rt), TD_OK) << td_last_error();
  const td_seq seq = create(rt);
  static auto& stream = *new EngineStream;  // given back it would be waited for
  static auto& step = *new EngineStep(seq, 10, 2, 5, 0);
  step.to_gpu(stream);
  EXPECT_EQ(step.append.run(rt), TD_EDEVICE);
  EXPECT_THAT(td_last_error(), testing::ContainsRegex("epoch [0-9]+ within 1 ms"));
  td_destroy(rt);
}

}  // namespace
}  // namespace c_api
