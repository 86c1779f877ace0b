// What a second signal leaves behind: nothing.
#include "tools/tandem/interrupt.h"

#include <csignal>
#include <fstream>

#include "tests/tools/files.h"
#include "tools/tandem/output.h"

namespace tandem::cli {
namespace {

using testing::TemporaryFolder;

std::vector<std::string> names_in(const TemporaryFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) names.push_back(entry.path().filename());
  return names;
}

class SecondSignal : public ::testing::TestWithParam<int> {
 protected:
  // The process that dies is a copy of this one, with the same folder.
  SecondSignal() { ::testing::GTEST_FLAG(death_test_style) = "fast"; }
  void interrupt_twice() const {
    catch_interrupts();
    std::raise(SIGINT);
    EXPECT_TRUE(interrupted());
    std::raise(GetParam());
  }
  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Interrupt, SecondSignal, ::testing::Values(SIGINT, SIGTERM));

TEST_P(SecondSignal, RemovesFilesThatAreNotWhole) {
  const auto use = [&] {
    JsonOutput json(folder_ / "a.json");
    JsonOutput whole(folder_ / "whole.json", "--out");
    whole.write({1, 2, 3});
    if (names_in(folder_).size() == 2) interrupt_twice();
  };
  EXPECT_EXIT(use(), ::testing::KilledBySignal(GetParam()), "");
  EXPECT_EQ(names_in(folder_), std::vector<std::string>{"whole.json"});
}

TEST_P(SecondSignal, RemovesFoldersAndWhatIsInThem) {
  const auto use = [&] {
    OutputFolder output(folder_ / "trace/");
    output.fill([&](const std::filesystem::path& staging) {
      for (int i = 0; i < 300; ++i) std::ofstream(staging / ("layer" + std::to_string(i) + ".safetensors")) << "k";
      JsonOutput(folder_ / "seen.json").write(names_in(folder_).size());
      interrupt_twice();
    });
  };
  EXPECT_EXIT(use(), ::testing::KilledBySignal(GetParam()), "");
  EXPECT_EQ(names_in(folder_), std::vector<std::string>{"seen.json"});
  EXPECT_EQ(testing::read_bytes(folder_ / "seen.json"), "2\n");  // the folder, and the file's own temporary
}

TEST(TemporaryPaths, AreRemovedOnceAndNotAgain) {
  const TemporaryFolder folder;
  for (int i = 0; i < 20; ++i) {  // more than a signal handler has room for at a time
    const TemporaryPath path(folder / "a");
    std::ofstream(path.path()) << "b";
    EXPECT_EQ(names_in(folder).size(), 1u);
  }
  EXPECT_EQ(names_in(folder).size(), 0u);
  {
    TemporaryPath path(folder / "a");
    std::ofstream(path.path()) << "b";
    std::error_code error;
    path.rename_to_target(error);
    EXPECT_FALSE(error) << error.message();
    std::ofstream(folder / ("a.tmp-" + std::to_string(::getpid()))) << "of somebody else";
  }
  EXPECT_EQ(names_in(folder).size(), 2u);
}

}  // namespace
}  // namespace tandem::cli
