// The CUDA device's track of a timeline.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cuda_emulator/emulator.h"
#include "tests/cuda/runtime_life.h"

namespace c_api {
namespace {

struct Work {
  std::string name;
  double begin, end;  ///< microseconds
};

class CudaTimeline : public testing::TestWithParam<emulator::Progress> {
 protected:
  void SetUp() override {
    emulator::Config machine;
    machine.progress = GetParam();
    machine.late_after_ms = 1;
    emulator::reset(machine);
    leaks_ = emulator::check_leaks();
  }
  void TearDown() override {
    std::filesystem::remove(path_);
    EXPECT_EQ(emulator::take_fault(), "");
    EXPECT_EQ(emulator::check_leaks(), leaks_);
  }
  /// Spans of one name, or of the device alone.
  [[nodiscard]] std::vector<Work> spans(const std::string& name, bool of_device) const {
    const auto events = nlohmann::json::parse(std::ifstream(path_));
    int device = -1;
    for (const auto& event : events) {
      if (event.at("ph") == "M" && event.at("name") == "thread_name" &&
          event.at("args").at("name").get<std::string>().find("cuda:0") != std::string::npos)
        device = event.at("tid");
    }
    std::vector<Work> found;
    for (const auto& event : events) {
      if (event.at("ph") != "X" || event.at("name") != name || (event.at("tid") == device) != of_device) continue;
      const double begin = event.at("ts");
      found.push_back({name, begin, begin + event.at("dur").get<double>()});
    }
    return found;
  }
  const std::string path_ = (std::filesystem::path(testing::TempDir()) / "tandem-cuda-timeline.json").string();

 private:
  std::string leaks_;
};
INSTANTIATE_TEST_SUITE_P(Progress, CudaTimeline, testing::Values(emulator::Progress::eager, emulator::Progress::late));

TEST_P(CudaTimeline, ShowsWhenTheDeviceWorked) {
  const Rt rt(on("cuda"));
  const td_seq seq = create(rt);
  fill(rt, seq, 100, 1);
  attended(rt, seq);  // before, and so in no timeline
  ASSERT_EQ(td_timeline_start(rt, path_.c_str(), 0), TD_OK) << td_last_error();
  constexpr int kSteps = 5;
  for (std::uint32_t step = 0; step < kSteps; ++step) {
    fill(rt, seq, 1, 10 + step);
    attended(rt, seq);
  }
  ASSERT_EQ(td_timeline_stop(rt), TD_OK) << td_last_error();
  const std::vector<Work> work = spans("window attention", true), calls = spans("td_attend", false);
  ASSERT_EQ(work.size(), kSteps);
  ASSERT_EQ(calls.size(), kSteps);
  const double slack = 20'000;  // between both clocks, on a machine with other work
  for (std::size_t i = 0; i < work.size(); ++i) {
    EXPECT_LE(work[i].begin, work[i].end);
    EXPECT_GE(work[i].begin, calls[i].begin - slack);
    EXPECT_LE(work[i].end, calls[i].end + slack);
    if (i > 0) {
      EXPECT_GE(work[i].begin, work[i - 1].end);
    }
  }
}

TEST_P(CudaTimeline, IsWrittenAfterTheDeviceIsLost) {
  const Rt rt(on("cuda"));
  const td_seq seq = create(rt);
  ASSERT_EQ(td_timeline_start(rt, path_.c_str(), 0), TD_OK) << td_last_error();
  fill(rt, seq, 10, 1);
  attended(rt, seq);
  emulator::lose_device(0, cudaErrorECCUncorrectable);
  EXPECT_EQ(Attend({seq}, {1}, 9).run(rt), TD_EDEVICE);
  EXPECT_EQ(td_timeline_stop(rt), TD_OK) << td_last_error();
  EXPECT_EQ(spans("window attention", true).size(), 1u);
  EXPECT_EQ(td_timeline_start(rt, path_.c_str(), 0), TD_EDEVICE);
  EXPECT_EQ(td_timeline_stop(rt), TD_ESTATE) << "it never began";
}

}  // namespace
}  // namespace c_api
