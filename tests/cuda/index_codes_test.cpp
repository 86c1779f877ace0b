// Kernels that code keys for an index: the bytes of the host's kernels, of every instruction set.
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cpu/key_coding.h"
#include "gpu/cuda/cuda_device.h"
#include "gpu/cuda/key_coding_lane.h"
#include "runtime/base/error.h"
#include "runtime/base/random.h"
#include "tests/cuda/cuda_test.h"
#include "tests/support/store_fixture.h"

namespace tandem::testing {
namespace {

/// Rows of a head in a host row format, far from centred, and what they are centred by.
struct Keys {
  Keys(int dim, DType dtype, std::int64_t count, std::uint64_t seed = 1)
      : shape(resolved({1, 1, 1, dim, dim, 0.f, 0.f})),
        rows(shape, dtype),
        random(seed, static_cast<std::uint64_t>(dim)) {
    std::vector<float> k(static_cast<std::size_t>(count * dim));
    for (float& x : k) x = static_cast<float>(0.7 + 2 * random.normal());
    if (count > 2) std::fill_n(k.begin() + dim, dim, 0.f);  // and a key that is zero
    rows.append(k, k);
    mean.assign(static_cast<std::size_t>(rows.layout.padded_k), 0.f);
    for (int d = 0; d < dim; ++d) mean[static_cast<std::size_t>(d)] = static_cast<float>(0.7 + 0.1 * random.normal());
  }
  /// A row that equals the mean, where the format can hold it.
  void add_mean() {
    rows.append({mean.begin(), mean.begin() + shape.head_dim_k},
                std::vector<float>(mean.begin(), mean.begin() + shape.head_dim_k));
  }

  AttentionShape shape;
  StoreFixture rows;
  CounterRandom random;
  cpu::AlignedVector<float> mean;
};

/// A format of sketches and planes, about as a calibration makes them.
struct Sketcher {
  Sketcher(const cpu::BitAllocation& allocation, int dim, std::uint64_t seed = 1)
      : format(allocation, uneven(allocation), 3.f),
        planes(static_cast<std::size_t>(cpu::padded(dim) * format.padded_dims), 0.f) {
    CounterRandom random(seed, static_cast<std::uint64_t>(format.num_dims));
    for (int d = 0; d < dim; ++d) {
      for (int i = 0; i < format.num_dims; ++i)
        planes[static_cast<std::size_t>(d * format.padded_dims + i)] =
            static_cast<float>(random.normal() / (1 + 0.02 * i));
    }
  }
  static std::vector<float> uneven(const cpu::BitAllocation& allocation) {
    std::vector<float> rms;
    for (std::size_t g = 0; g < allocation.size(); ++g) rms.push_back(1.3f / static_cast<float>(g + 1));
    return rms;
  }
  cpu::SketchFormat format;
  cpu::AlignedVector<float> planes;
};

std::size_t blocks_of(std::int64_t rows) {
  return static_cast<std::size_t>((rows + cpu::kCodedBlockRows - 1) / cpu::kCodedBlockRows);
}

/// Blocks of codes, one after the other, and norms.
struct Codes {
  std::vector<std::byte> blocks;
  std::vector<float> inverse_norms;
  friend bool operator==(const Codes&, const Codes&) = default;
};

Codes host_codes(const cpu::Kernels& kernels, const Keys& keys, const Sketcher& sketcher, std::int64_t first,
                 std::int64_t count) {
  const int padded_k = keys.rows.layout.padded_k;
  std::vector<const std::byte*> rows;
  for (std::int64_t r = 0; r < count; ++r) rows.push_back(keys.rows.store.row(first + r));
  cpu::AlignedVector<float> centred(static_cast<std::size_t>(count * padded_k)),
      z(static_cast<std::size_t>(count * sketcher.format.padded_dims));
  cpu::AlignedVector<std::byte> blocks(blocks_of(count) * static_cast<std::size_t>(sketcher.format.block_bytes()));
  kernels.sketch.centre[keys.rows.layout.dtype](rows.data(), static_cast<int>(count), padded_k, keys.mean.data(),
                                                centred.data());
  kernels.sketch.project(centred.data(), count, padded_k, sketcher.planes.data(), sketcher.format.padded_dims,
                         z.data());
  kernels.sketch.encode(sketcher.format, z.data(), static_cast<int>(count), blocks.data(), 0);
  return {{blocks.begin(), blocks.end()}, {}};
}

/// Codes of rows that do not exist are 0.
Codes host_codes(const cpu::Kernels& kernels, const Keys& keys, const cpu::SimHash& hash, std::int64_t first,
                 std::int64_t count) {
  const cpu::RowLayout& layout = keys.rows.layout;
  const auto dim = static_cast<std::size_t>(layout.padded_k);
  cpu::AlignedVector<float> centred(static_cast<std::size_t>(count) * dim);
  Codes result;
  for (std::int64_t r = 0; r < count; ++r) {
    float* key = centred.data() + static_cast<std::size_t>(r) * dim;
    cpu::load_key(layout, keys.rows.store.row(first + r), key);
    double sums[8] = {}, square = 0;  // as LshTables adds them
    for (std::size_t d = 0; d < dim; ++d) {
      key[d] -= keys.mean[d];
      sums[d % 8] += static_cast<double>(key[d]) * key[d];
    }
    for (const double sum : sums) square += sum;
    result.inverse_norms.push_back(square > 0 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.f);
  }
  std::vector<std::uint16_t> codes(static_cast<std::size_t>(hash.codes_size(count)));
  cpu::HashScratch scratch;
  hash.encode(kernels, centred.data(), count, codes.data(), scratch);
  for (std::int64_t r = count; r < static_cast<std::int64_t>(blocks_of(count)) * cpu::kCodedBlockRows; ++r) {
    for (int t = 0; t < hash.num_tables(); ++t) codes[hash.code_index(r, t)] = 0;
  }
  result.blocks.resize(codes.size() * sizeof(std::uint16_t));
  if (!codes.empty()) std::memcpy(result.blocks.data(), codes.data(), result.blocks.size());
  return result;
}

/// What a device makes of rows [first, first + count).
Codes device_codes(gpu::Device& device, const Keys& keys, cpu::KeyCoding coding, std::int64_t block_bytes) {
  Codes result;
  const std::size_t blocks = blocks_of(coding.count), bytes = static_cast<std::size_t>(block_bytes);
  result.blocks.assign(blocks * bytes, std::byte{0xa5});
  std::vector<std::byte*> pointers;
  for (std::size_t b = 0; b < blocks; ++b) pointers.push_back(result.blocks.data() + b * bytes);
  if (std::holds_alternative<const cpu::SimHash*>(coding.tables)) {
    result.inverse_norms.assign(static_cast<std::size_t>(coding.count), -1.f);
    coding.inverse_norms = result.inverse_norms.data();
  }
  coding.store = &keys.rows.store;
  coding.mean = keys.mean.data();
  coding.blocks = pointers.data();
  EXPECT_TRUE(device.code_keys(coding, gpu::kWindowStream));
  return result;
}

Codes device_codes(gpu::Device& device, cpu::Isa isa, const Keys& keys, const Sketcher& sketcher, std::int64_t first,
                   std::int64_t count, const std::weak_ptr<const void>& owner = {}) {
  return device_codes(device, keys,
                      {nullptr, first, count, nullptr, cpu::SketchTables{&sketcher.format, sketcher.planes.data()},
                       owner, cpu::fuses(isa), nullptr},
                      sketcher.format.block_bytes());
}

Codes device_codes(gpu::Device& device, cpu::Isa isa, const Keys& keys, const std::shared_ptr<const cpu::SimHash>& hash,
                   std::int64_t first, std::int64_t count) {
  return device_codes(device, keys, {nullptr, first, count, nullptr, hash.get(), hash, cpu::fuses(isa), nullptr},
                      hash->num_tables() * 2 * cpu::kCodedBlockRows);
}

constexpr DType kFormats[] = {DType::f32, DType::f16, DType::bf16, DType::int8, DType::k8v4};

std::string trace(cpu::Isa isa, int dim, DType dtype) {
  return concat(cpu::to_string(isa), " head_dim ", dim, " ", to_string(dtype));
}

class CudaIndexCodes : public CudaTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaIndexCodes, kThreadOrders);

TEST_P(CudaIndexCodes, SketchesOfEveryAllocationAreTheHosts) {
  gpu::cuda::CudaDevice device(0, {});
  for (const int dim : {64, 96, 128, 256}) {
    const Keys keys(dim, DType::bf16, 100);
    for (const int bits : {1, 2}) {
      for (const cpu::BitAllocation& allocation : cpu::sketch_menu(dim, bits)) {
        const Sketcher sketcher(allocation, dim);
        for (const cpu::Isa isa : cpu::available_isas()) {
          SCOPED_TRACE(trace(isa, dim, DType::bf16) + concat(" groups ", allocation.size(), " bits ", bits));
          ASSERT_EQ(device_codes(device, isa, keys, sketcher, 0, 100),
                    host_codes(cpu::kernels_for(isa), keys, sketcher, 0, 100));
        }
      }
    }
  }
}

TEST_P(CudaIndexCodes, SketchesOfEveryRowFormatAreTheHosts) {
  gpu::cuda::CudaDevice device(0, {});
  for (const int dim : {1, 17, 64, 80, 128, 256}) {
    const Sketcher sketcher(cpu::sketch_menu(dim, 1)[2], dim);
    for (const DType dtype : kFormats) {
      Keys keys(dim, dtype, 34);
      keys.add_mean();
      for (const cpu::Isa isa : cpu::available_isas()) {
        SCOPED_TRACE(trace(isa, dim, dtype));
        ASSERT_EQ(device_codes(device, isa, keys, sketcher, 0, 35),
                  host_codes(cpu::kernels_for(isa), keys, sketcher, 0, 35));
      }
    }
  }
}

TEST_P(CudaIndexCodes, CodesOfEveryRowFormatAreTheHosts) {
  gpu::cuda::CudaDevice device(0, {});
  for (const auto planes : {cpu::HashPlanes::hadamard, cpu::HashPlanes::gaussian}) {
    for (const int dim : {1, 17, 33, 64, 80, 128, 256}) {
      const auto hash = std::make_shared<const cpu::SimHash>(3, dim, cpu::SimHashParams{10, 13, planes, 192});
      for (const DType dtype : kFormats) {
        Keys keys(dim, dtype, 34);
        keys.add_mean();
        for (const cpu::Isa isa : {cpu::Isa::scalar, cpu::available_isas().back()}) {
          SCOPED_TRACE(trace(isa, dim, dtype) + concat(" planes ", static_cast<int>(planes)));
          ASSERT_EQ(device_codes(device, isa, keys, hash, 0, 35),
                    host_codes(cpu::kernels_for(isa), keys, *hash, 0, 35));
        }
      }
    }
  }
}

TEST_P(CudaIndexCodes, TablesOfEveryShapeAreTheHosts) {
  gpu::cuda::CudaDevice device(0, {});
  const cpu::Isa isa = cpu::available_isas().back();
  const cpu::SimHashParams shapes[] = {
      {1, 1, cpu::HashPlanes::hadamard, 128},     {12, 300, cpu::HashPlanes::hadamard, 2048},
      {10, 150, cpu::HashPlanes::hadamard, 1024}, {1, 1, cpu::HashPlanes::gaussian},
      {7, 31, cpu::HashPlanes::gaussian},         {12, 300, cpu::HashPlanes::gaussian},
  };
  for (const cpu::SimHashParams& shape : shapes) {
    for (const int dim : {16, 128, 256}) {
      SCOPED_TRACE(concat("K ", shape.bits_per_table, " L ", shape.num_tables, " head_dim ", dim));
      const auto hash = std::make_shared<const cpu::SimHash>(5, dim, shape);
      const Keys keys(dim, DType::f16, 35);
      ASSERT_EQ(device_codes(device, isa, keys, hash, 0, 35), host_codes(cpu::kernels_for(isa), keys, *hash, 0, 35));
    }
  }
}

TEST_P(CudaIndexCodes, RowsOfEveryNumberAreCodedInPieces) {
  gpu::cuda::CudaDevice device(0, {});
  const cpu::Isa isa = cpu::available_isas().back();
  constexpr std::int64_t kPiece = gpu::cuda::kCodingPieceRows, kMost = 3 * kPiece + 65;
  const Keys keys(16, DType::bf16, kMost + 64);
  const Sketcher sketcher(cpu::sketch_menu(16, 1)[1], 16);
  const auto hash =
      std::make_shared<const cpu::SimHash>(3, 16, cpu::SimHashParams{4, 3, cpu::HashPlanes::hadamard, 128});
  for (const std::int64_t count :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{31}, std::int64_t{32}, std::int64_t{33}, std::int64_t{63},
        std::int64_t{64}, std::int64_t{65}, kPiece - 1, kPiece, kPiece + 1, 2 * kPiece, 2 * kPiece + 1, kMost}) {
    for (const std::int64_t first : {0, 64}) {
      SCOPED_TRACE(concat(count, " rows from ", first));
      ASSERT_EQ(device_codes(device, isa, keys, sketcher, first, count),
                host_codes(cpu::kernels_for(isa), keys, sketcher, first, count));
      ASSERT_EQ(device_codes(device, isa, keys, hash, first, count),
                host_codes(cpu::kernels_for(isa), keys, *hash, first, count));
    }
  }
}

TEST_P(CudaIndexCodes, TablesAreKeptForTheirOwnerAlone) {
  gpu::cuda::CudaDevice device(0, {});
  const cpu::Isa isa = cpu::available_isas().back();
  const cpu::Kernels& kernels = cpu::kernels_for(isa);
  const Keys keys(32, DType::f32, 70);
  auto first = std::make_shared<const Sketcher>(cpu::sketch_menu(32, 1)[0], 32, 1);
  const auto second = std::make_shared<const Sketcher>(cpu::sketch_menu(32, 2)[2], 32, 2);
  const auto hash = std::make_shared<const cpu::SimHash>(3, 32, cpu::SimHashParams{4, 3, cpu::HashPlanes::gaussian});
  for (int round = 0; round < 2; ++round) {
    for (const auto& sketcher : {first, first, second, first})
      ASSERT_EQ(device_codes(device, isa, keys, *sketcher, 0, 70, sketcher),
                host_codes(kernels, keys, *sketcher, 0, 70));
    ASSERT_EQ(device_codes(device, isa, keys, hash, 0, 70), host_codes(kernels, keys, *hash, 0, 70));
    ASSERT_EQ(device_codes(device, isa, keys, hash, 64, 6), host_codes(kernels, keys, *hash, 64, 6));
  }
  const std::weak_ptr<const void> ended = first;
  first.reset();
  EXPECT_TRUE(ended.expired()) << "the device must not keep tables alive";
}

TEST_P(CudaIndexCodes, ThreadsShareADevice) {
  gpu::cuda::CudaDevice device(0, {});
  const cpu::Isa isa = cpu::available_isas().back();
  std::vector<std::thread> threads;
  for (int i = 0; i < 5; ++i) {
    threads.emplace_back([&device, isa, i] {
      const Keys keys(16, DType::bf16, 2200, static_cast<std::uint64_t>(i));
      const Sketcher sketcher(cpu::sketch_menu(16, 1 + i % 2)[0], 16, static_cast<std::uint64_t>(i));
      const Codes expected = host_codes(cpu::kernels_for(isa), keys, sketcher, 0, 2200);
      for (int round = 0; round < 2; ++round) {
        EXPECT_EQ(device_codes(device, isa, keys, sketcher, 0, 2200), expected);
        device.wait(gpu::kWindowStream);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(CudaIndexCodes, LargerHeadsAreLeftToTheHost) {
  gpu::cuda::CudaDevice device(0, {});
  const Keys keys(272, DType::f32, 1);
  const Sketcher sketcher(cpu::sketch_menu(272, 1)[0], 272);
  const cpu::KeyCoding coding{
      &keys.rows.store, 0, 1, keys.mean.data(), cpu::SketchTables{&sketcher.format, sketcher.planes.data()}, {}, true,
      nullptr};
  EXPECT_FALSE(device.code_keys(coding, gpu::kWindowStream));
}

}  // namespace
}  // namespace tandem::testing
