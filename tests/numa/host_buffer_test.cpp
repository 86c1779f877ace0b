#include "numa/host_buffer.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/base/error.h"

namespace tandem::numa {
namespace {

constexpr std::int64_t kMib = std::int64_t{1} << 20;

std::int64_t page_bytes() { return sysconf(_SC_PAGESIZE); }

bool aligned(const std::byte* data, std::int64_t alignment) {
  return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(alignment) == 0;
}

class HostBufferOfSize : public testing::TestWithParam<std::int64_t> {
 protected:
  // Every law holds on every node of this machine and of an imagined one.
  void for_each_node(const std::function<void(const Topology&, int)>& law) const {
    for (const auto& topology : {Topology::detect(), Topology::synthetic("node:4 core:2 pu:1")})
      for (int node = 0; node < topology.num_nodes(); ++node) law(topology, node);
  }
  MemoryLedger ledger_{64 * kMib};
};

TEST_P(HostBufferOfSize, IsZeroedAlignedWritableAndCounted) {
  for_each_node([&](const Topology& topology, int node) {
    const std::int64_t bytes = GetParam();
    {
      const auto buffer = HostBuffer::on_node(topology, node, bytes, ledger_, "test");
      ASSERT_EQ(buffer.bytes(), bytes);
      EXPECT_TRUE(aligned(buffer.data(), bytes >= 2 * kMib ? 2 * kMib : page_bytes()));
      const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
      EXPECT_TRUE(std::all_of(buffer.data(), buffer.data() + bytes, is_zero));
      if (bytes > 0) std::memset(buffer.data(), 0x5a, static_cast<std::size_t>(bytes));
      EXPECT_EQ(ledger_.used_bytes(), (bytes + page_bytes() - 1) / page_bytes() * page_bytes());
    }
    EXPECT_EQ(ledger_.used_bytes(), 0);
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, HostBufferOfSize,
                         testing::Values(0, 1, 4095, 4096, 4097, 2 * kMib - 1, 2 * kMib, 2 * kMib + 1, 5 * kMib));

TEST(HostBuffer, EmptyBuffersHaveNoData) {
  MemoryLedger ledger(0);
  EXPECT_EQ(HostBuffer().data(), nullptr);
  EXPECT_EQ(HostBuffer::on_node(Topology::detect(), 0, 0, ledger, "nothing").data(), nullptr);
}

TEST(HostBuffer, Moves) {
  const Topology topology = Topology::detect();
  MemoryLedger ledger(64 * kMib);
  auto a = HostBuffer::on_node(topology, 0, 3 * kMib, ledger, "a");
  std::byte* data = a.data();
  data[0] = std::byte{7};
  HostBuffer b(std::move(a));
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(b.bytes(), 3 * kMib);
  EXPECT_EQ(ledger.used_bytes(), 3 * kMib);
  auto c = HostBuffer::on_node(topology, 0, 4 * kMib, ledger, "c");
  c = std::move(b);
  EXPECT_EQ(c.data()[0], std::byte{7});
  EXPECT_EQ(ledger.used_bytes(), 3 * kMib) << "what c held before is given back by the assignment";
  auto& same = c;
  c = std::move(same);
  EXPECT_EQ(c.data(), data);
  c = HostBuffer();
  EXPECT_EQ(ledger.used_bytes(), 0);
}

TEST(HostBuffer, RefusesBeyondTheLedgerAndLeavesItUnchanged) {
  const Topology topology = Topology::detect();
  MemoryLedger ledger(8 * kMib);
  for (const std::int64_t bytes : {8 * kMib + 1, std::numeric_limits<std::int64_t>::max()}) {
    try {
      HostBuffer::on_node(topology, 0, bytes, ledger, "the index");
      ADD_FAILURE() << "not refused: " << bytes;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
      EXPECT_THAT(error.what(), testing::HasSubstr("the index"));
      EXPECT_THAT(error.what(), testing::HasSubstr("8388608 bytes"));
    }
    EXPECT_EQ(ledger.used_bytes(), 0);
  }
}

TEST(HostBuffer, ReportsWhatTheSystemRefuses) {
  const Topology topology = Topology::detect();
  MemoryLedger ledger(std::numeric_limits<std::int64_t>::max());
  const std::int64_t bytes = std::int64_t{1} << 60;  // more than any address space
  try {
    HostBuffer::on_node(topology, 0, bytes, ledger, "the index");
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    EXPECT_THAT(error.what(), testing::HasSubstr("the index needs " + std::to_string(bytes)));
  }
  EXPECT_EQ(ledger.used_bytes(), 0);
}

}  // namespace
}  // namespace tandem::numa
