#include "numa/cgroup_limits.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

namespace tandem::numa {
namespace {

namespace fs = std::filesystem;

/// A directory tree that stands for "/", removed at the end.
class Root {
 public:
  explicit Root(const std::map<std::string, std::string>& files) {
    std::string name = (fs::temp_directory_path() / "tandem-cgroup-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
    path_ = name;
    for (const auto& [file, text] : files) {
      fs::create_directories((path_ / file).parent_path());
      std::ofstream(path_ / file) << text << '\n';
    }
  }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;
  ~Root() { fs::remove_all(path_); }
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

struct Case {
  const char* name;
  std::map<std::string, std::string> files;
  std::optional<std::int64_t> memory_bytes;
  std::optional<double> cpus;
};

const Case kCases[] = {
    {"NoFiles", {}, {}, {}},
    {"NotMounted", {{"proc/self/cgroup", "0::/user.slice"}}, {}, {}},
    {"Malformed",
     {{"proc/self/cgroup", "nonsense\n0:\n\n0::/"},
      {"sys/fs/cgroup/memory.max", "many"},
      {"sys/fs/cgroup/cpu.max", "5"}},
     {},
     {}},
    {"V2Unlimited",
     {{"proc/self/cgroup", "0::/a"}, {"sys/fs/cgroup/a/memory.max", "max"}, {"sys/fs/cgroup/a/cpu.max", "max 100000"}},
     {},
     {}},
    {"V2Own",
     {{"proc/self/cgroup", "0::/a/b"},
      {"sys/fs/cgroup/a/b/memory.max", "1000"},
      {"sys/fs/cgroup/a/b/cpu.max", "150000 100000"}},
     1000,
     1.5},
    {"V2TightestAncestorCounts",
     {{"proc/self/cgroup", "0::/a/b/c"},
      {"sys/fs/cgroup/a/memory.max", "700"},
      {"sys/fs/cgroup/a/b/memory.max", "max"},
      {"sys/fs/cgroup/a/b/c/memory.max", "900"},
      {"sys/fs/cgroup/a/cpu.max", "400000 100000"},
      {"sys/fs/cgroup/a/b/cpu.max", "50000 100000"}},
     700,
     0.5},
    {"V2SiblingsDoNot",
     {{"proc/self/cgroup", "0::/a/b"}, {"sys/fs/cgroup/a/x/memory.max", "5"}, {"sys/fs/cgroup/a/b/x/memory.max", "5"}},
     {},
     {}},
    {"V2NamespaceRoot", {{"proc/self/cgroup", "0::/"}, {"sys/fs/cgroup/memory.max", "4096"}}, 4096, {}},
    {"V2OutsideTheNamespace",
     {{"proc/self/cgroup", "0::/../other"}, {"sys/fs/cgroup/memory.max", "64"}, {"sys/fs/other/memory.max", "5"}},
     64,
     {}},
    {"V1Own",
     {{"proc/self/cgroup", "4:memory:/job\n1:cpu,cpuacct:/job"},
      {"sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2000"},
      {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"},
      {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "250000"},
      {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000"}},
     2000,
     2.5},
    {"V1ControllerMountedAlone",
     {{"proc/self/cgroup", "1:cpu,cpuacct:/"},
      {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "20000"},
      {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "10000"}},
     {},
     2.0},
    {"V1Unlimited",
     {{"proc/self/cgroup", "4:memory:/\n1:cpu:/"},
      {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"},
      {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"},
      {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"}},
     {},
     {}},
    // A container without a cgroup namespace: the path is the host's, the mount is the container's own group.
    {"V1PathOfTheHost",
     {{"proc/self/cgroup", "4:memory:/docker/0123"}, {"sys/fs/cgroup/memory/memory.limit_in_bytes", "300"}},
     300,
     {}},
    {"Hybrid",
     {{"proc/self/cgroup", "4:memory:/job\n0::/user"},
      {"sys/fs/cgroup/memory/job/memory.limit_in_bytes", "800"},
      {"sys/fs/cgroup/unified/user/memory.max", "600"}},
     600,
     {}},
};

class CgroupLimitsOf : public testing::TestWithParam<Case> {};

TEST_P(CgroupLimitsOf, AreTheTightest) {
  const Root root(GetParam().files);
  const CgroupLimits limits = read_cgroup_limits(root.path());
  EXPECT_EQ(limits.memory_bytes, GetParam().memory_bytes);
  EXPECT_EQ(limits.cpus, GetParam().cpus);
}

INSTANTIATE_TEST_SUITE_P(Trees, CgroupLimitsOf, testing::ValuesIn(kCases),
                         [](const auto& param_info) { return std::string(param_info.param.name); });

}  // namespace
}  // namespace tandem::numa
