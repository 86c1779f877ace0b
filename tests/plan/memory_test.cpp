#include "tools/plan/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"

namespace tandem::plan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Catalog& catalog() {
  static const Catalog built_in = Catalog::built_in();
  return built_in;
}

ModelShape llama_8b() { return catalog().model("llama-3.1-8b"); }
System system_of(const char* name) { return system_from(catalog(), name); }

TEST(Memory, KeysAndValuesByHand) {
  EXPECT_EQ(32 * device_token_bytes(llama_8b()), 128 * 1024);
  EXPECT_EQ(32 * device_token_bytes(catalog().model("llama-2-7b")), 512 * 1024);
  EXPECT_EQ(80 * device_token_bytes(catalog().model("llama-3.1-70b")), 320 * 1024);
  const MemoryNeed need = memory_of(llama_8b(), {.method = Method::gpu, .context = 131072}, 1);
  EXPECT_NEAR(need.device_kv, 17.18e9, 0.01e9);
  EXPECT_NEAR(need.weights, 16.06e9, 0.01e9);
  EXPECT_EQ(need.host(), 0);
}

TEST(Memory, RowsAndIndexOfTheHost) {
  const ModelShape model = llama_8b();
  EXPECT_EQ(host_row_bytes(model, {}), 512);
  EXPECT_EQ(host_row_bytes(model, {.host_dtype = DType::int8}), 320);
  EXPECT_EQ(host_row_bytes(model, {.host_dtype = DType::k8v4}), 256);
  EXPECT_EQ(index_bytes(model, {.method = Method::tandem, .sketch_bits = 1}), 18);
  EXPECT_EQ(index_bytes(model, {.method = Method::tandem, .sketch_bits = 2}), 34);
  EXPECT_EQ(index_bytes(model, {.method = Method::host_dense}), 0);
  EXPECT_NEAR(index_bytes(model, {.method = Method::magicpig, .context = 32768}), 638, 1) << "as README.md counts them";
}

TEST(Memory, MaxBatchIsThatOfTheModelPage) {
  // 8B at 128K: all on the GPU, and with two dense layers and a window of 4096.
  const auto most = [](const char* name, Method method) {
    System system = system_of(name);
    system.cpu.memory_gb->value = 1e6;
    return max_batch(
        system, llama_8b(),
        {.method = method, .context = 131072, .window = 4096, .dense_layers = method == Method::gpu ? 0 : 2});
  };
  EXPECT_EQ(most("v100-32", Method::gpu), 0);
  EXPECT_EQ(most("v100-32", Method::tandem), 8);
  EXPECT_EQ(most("a100-40", Method::gpu), 1);
  EXPECT_EQ(most("a100-40", Method::tandem), 13);
  EXPECT_EQ(most("h100", Method::gpu), 3);
  EXPECT_EQ(most("h100", Method::tandem), 39);
  EXPECT_EQ(most("l20", Method::gpu), 1);
  EXPECT_EQ(most("rtx-4090", Method::gpu), 0);
  EXPECT_EQ(most("h200", Method::gpu), 7);
}

TEST(Memory, MaxBatchIsTheLargestThatFits) {
  const System system = system_of("a100-80");
  for (const Method method : kMethods) {
    StepSettings settings{.method = method, .context = 98304};
    const int most = max_batch(system, llama_8b(), settings);
    ASSERT_GT(most, 0);
    settings.batch = most;
    EXPECT_TRUE(fits(system, llama_8b(), settings));
    settings.batch = most + 1;
    EXPECT_FALSE(fits(system, llama_8b(), settings)) << to_string(method);
  }
  EXPECT_EQ(max_batch(system, llama_8b(), {.context = 4096}, 3), 3) << "no more than asked for";
}

TEST(Memory, MoreTokensNeverTakeLess) {
  const ModelShape model = llama_8b();
  for (const Method method : kMethods)
    for (std::int64_t context = 1024; context < 131072; context *= 2) {
      const MemoryNeed less = memory_of(model, {.method = method, .context = context}, 1);
      const MemoryNeed more = memory_of(model, {.method = method, .context = 2 * context}, 1);
      EXPECT_LE(less.device(), more.device());
      EXPECT_LE(less.host_rows, more.host_rows);
    }
}

TEST(Memory, SlidingWindowsBoundWhatIsKept) {
  const ModelShape model = catalog().model("mistral-7b");
  const auto kv = [&](std::int64_t context) {
    return memory_of(model, {.method = Method::gpu, .context = context}, 1).device_kv;
  };
  EXPECT_EQ(kv(4096), kv(32768));
  EXPECT_LT(kv(2048), kv(4096));
}

TEST(Memory, SaysByHowMuchItDoesNotFitAndWhatWould) {
  const auto why = [](const char* name, const StepSettings& settings, const char* model = "llama-3.1-8b") {
    return why_it_does_not_fit(catalog(), system_of(name), catalog().model(model), settings);
  };
  EXPECT_EQ(why("h100", {.method = Method::gpu, .context = 131072, .batch = 3}), "");
  EXPECT_THAT(why("h100", {.method = Method::gpu, .context = 131072, .batch = 4}),
              AllOf(HasSubstr("takes 86.8 GB of device memory, 6.8 GB more than h100 has"), HasSubstr("3 sequences"),
                    HasSubstr("contexts of up to 11"), HasSubstr("int8 weights"), HasSubstr("the method tandem"),
                    HasSubstr("a larger card (h200)")));
  EXPECT_THAT(why("t4", {.method = Method::gpu, .context = 131072}, "llama-3.1-70b"),
              AllOf(HasSubstr("more than t4 has"), Not(HasSubstr("sequence"))));
  EXPECT_THAT(why("64xt4", {.method = Method::tandem, .context = 131072, .batch = 4000}), HasSubstr("of host memory"));
}

TEST(Memory, WithoutAGpuTheHostHoldsAll) {
  System system = system_of("xeon-8280");
  EXPECT_EQ(device_bytes(system), 0);
  EXPECT_EQ(host_bytes(system), 384e9);
  EXPECT_TRUE(fits(system, llama_8b(), {.context = 32768}));
  EXPECT_THAT(why_it_does_not_fit(catalog(), system, llama_8b(), {.context = 131072, .batch = 100}),
              AllOf(HasSubstr("of host memory"), Not(HasSubstr("larger card"))));
  system.cpu.memory_gb.reset();
  EXPECT_THAT(tandem::testing::error_message([&] { (void)fits(system, llama_8b(), {}); }),
              HasSubstr("no figure memory_gb"));
}

}  // namespace
}  // namespace tandem::plan
