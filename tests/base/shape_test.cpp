#include "runtime/base/shape.h"

#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace tandem {
namespace {

AttentionShape good() { return {2, 8, 2, 64, 128, 0.5f, 30.f}; }

struct Bad {
  const char* message;
  void (*spoil)(AttentionShape&);
};

class BadShape : public testing::TestWithParam<Bad> {};

TEST_P(BadShape, IsRefusedWithFieldValueAndWhatIsAllowed) {
  AttentionShape shape = good();
  GetParam().spoil(shape);
  try {
    validate(shape);
    ADD_FAILURE() << "accepted; expected: " << GetParam().message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_STREQ(error.what(), GetParam().message);
  }
}

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

INSTANTIATE_TEST_SUITE_P(
    Shape, BadShape,
    testing::Values(Bad{"num_layers is 0; allowed: 1 to 65536", [](AttentionShape& s) { s.num_layers = 0; }},
                    Bad{"num_layers is -1; allowed: 1 to 65536", [](AttentionShape& s) { s.num_layers = -1; }},
                    Bad{"num_q_heads is 0; it must be at least 1", [](AttentionShape& s) { s.num_q_heads = 0; }},
                    Bad{"num_kv_heads is 0; it must be at least 1", [](AttentionShape& s) { s.num_kv_heads = 0; }},
                    Bad{"num_kv_heads is -2; it must be at least 1", [](AttentionShape& s) { s.num_kv_heads = -2; }},
                    Bad{"num_q_heads is 8; it must be a multiple of num_kv_heads (3)",
                        [](AttentionShape& s) { s.num_kv_heads = 3; }},
                    Bad{"num_q_heads is 8; it must be a multiple of num_kv_heads (16)",
                        [](AttentionShape& s) { s.num_kv_heads = 16; }},
                    Bad{"num_q_heads / num_kv_heads is 65; at most 64 query heads may share a KV head",
                        [](AttentionShape& s) { s.num_q_heads = 130; }},
                    Bad{"head_dim_k is 0; allowed: 1 to 1024", [](AttentionShape& s) { s.head_dim_k = 0; }},
                    Bad{"head_dim_k is 1025; allowed: 1 to 1024", [](AttentionShape& s) { s.head_dim_k = 1025; }},
                    Bad{"head_dim_v is -64; allowed: 1 to 1024", [](AttentionShape& s) { s.head_dim_v = -64; }},
                    Bad{"scale is -1; allowed: above 0, up to 1000 (0 chooses 1 / sqrt(head_dim_k))",
                        [](AttentionShape& s) { s.scale = -1.f; }},
                    Bad{"scale is nan; allowed: above 0, up to 1000 (0 chooses 1 / sqrt(head_dim_k))",
                        [](AttentionShape& s) { s.scale = kNaN; }},
                    Bad{"scale is inf; allowed: above 0, up to 1000 (0 chooses 1 / sqrt(head_dim_k))",
                        [](AttentionShape& s) { s.scale = kInfinity; }},
                    Bad{"softcap is -2; it must be 0 (none), or at least 0.001 and finite",
                        [](AttentionShape& s) { s.softcap = -2.f; }},
                    Bad{"softcap is nan; it must be 0 (none), or at least 0.001 and finite",
                        [](AttentionShape& s) { s.softcap = kNaN; }},
                    Bad{"softcap is inf; it must be 0 (none), or at least 0.001 and finite",
                        [](AttentionShape& s) { s.softcap = kInfinity; }}));

TEST(Shape, AcceptsTheLimits) {
  EXPECT_NO_THROW(validate(good()));
  AttentionShape shape = good();
  shape.num_q_heads = 128;
  shape.head_dim_k = 1024;
  shape.head_dim_v = 1;
  shape.softcap = 0.f;
  EXPECT_NO_THROW(validate(shape));
  EXPECT_EQ(shape.group_size(), 64);
}

TEST(Shape, ZeroMeansTheDefault) {
  const AttentionShape shape = resolved({1, 4, 2, 80, 0, 0.f, 0.f});
  EXPECT_EQ(shape.head_dim_v, 80);
  EXPECT_FLOAT_EQ(shape.scale, 1.f / std::sqrt(80.f));
  EXPECT_EQ(shape.group_size(), 2);
  const AttentionShape given = resolved(good());
  EXPECT_EQ(given.head_dim_v, 128);
  EXPECT_EQ(given.scale, 0.5f);
  EXPECT_EQ(resolved({1, 1, 1, 0, 0, 0.f, 0.f}).scale, 0.f);  // no 1 / 0: validate() names head_dim_k
}

}  // namespace
}  // namespace tandem
