#include <cmath>
#include <cstdint>
#include <limits>

#include "testing.h"

// Arithmetic that kernels use, against other ways to compute it.

namespace emulator {
namespace {

TEST(DeviceFunctions, Bits) {
  EXPECT_EQ(__popc(0xf0f00001u), 9);
  EXPECT_EQ(__popcll(0xf000000000000001ull), 5);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__clzll(1), 63);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__ffsll(1ll << 40), 41);
  EXPECT_EQ(__brev(1u), 0x80000000u);
  EXPECT_EQ(__brev(0x12345678u), 0x1e6a2c48u);
  EXPECT_EQ(__float_as_uint(1.f), 0x3f800000u);
  EXPECT_EQ(__uint_as_float(0x3f800000u), 1.f);
  EXPECT_EQ(__int_as_float(__float_as_int(-2.5f)), -2.5f);
  EXPECT_EQ(__longlong_as_double(__double_as_longlong(0.1)), 0.1);
}

TEST(DeviceFunctions, BytesAndShifts) {
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x7531u), 0x77553311u);
  EXPECT_EQ(__byte_perm(0x00008000u, 0u, 0x9019u), 0xff0080ffu);  // bit 3 of a nibble repeats the sign
  EXPECT_EQ(__funnelshift_r(0x89abcdefu, 0x01234567u, 8), 0x6789abcdu);
  EXPECT_EQ(__funnelshift_l(0x89abcdefu, 0x01234567u, 8), 0x23456789u);
  EXPECT_EQ(__funnelshift_l(0x89abcdefu, 0x01234567u, 0), 0x01234567u);
  EXPECT_EQ(__umulhi(0x80000000u, 6u), 3u);
}

TEST(DeviceFunctions, DotProductsOfBytes) {
  EXPECT_EQ(__dp4a(static_cast<int>(0xff02807fu), static_cast<int>(0x0103ff02u), 10), -1 + 6 + 128 + 254 + 10);
  EXPECT_EQ(__dp4a(0xff02807fu, 0x0103ff02u, 10u), 255u + 6u + 128u * 255u + 254u + 10u);
}

TEST(DeviceFunctions, Floats) {
  EXPECT_FLOAT_EQ(rsqrtf(4.f), 0.5f);
  EXPECT_FLOAT_EQ(__expf(1.f), 2.7182818f);
  EXPECT_FLOAT_EQ(__exp2f(3.f), 8.f);
  EXPECT_FLOAT_EQ(__log2f(8.f), 3.f);
  EXPECT_FLOAT_EQ(__logf(1.f), 0.f);
  EXPECT_FLOAT_EQ(__fdividef(1.f, 4.f), 0.25f);
  EXPECT_FLOAT_EQ(__frcp_rn(8.f), 0.125f);
  EXPECT_EQ(__saturatef(std::numeric_limits<float>::quiet_NaN()), 0.f);
  EXPECT_EQ(__saturatef(2.f), 1.f);
  EXPECT_EQ(__float2int_rn(2.5f), 2);
  EXPECT_EQ(min(3, -1), -1);
  EXPECT_EQ(max(3u, 1u), 3u);
  EXPECT_EQ(min(std::numeric_limits<float>::quiet_NaN(), 1.f), 1.f) << "as fminf";
}

TEST(DeviceFunctions, VectorsHaveCudasLayout) {
  static_assert(sizeof(float4) == 16 && alignof(float4) == 16 && alignof(uint2) == 8 && sizeof(uint3) == 12);
  static_assert(alignof(char4) == 4 && alignof(ushort4) == 8 && alignof(float2) == 8 && sizeof(float3) == 12);
  const float4 x = make_float4(1, 2, 3, 4);
  EXPECT_EQ(__ldg(&x).w, 4.f);
  const dim3 sizes = make_uint3(5, 6, 7);
  EXPECT_EQ(sizes.z, 7u);
}

}  // namespace
}  // namespace emulator
