#include <algorithm>
#include <vector>

#include <cblas.h>
#include <sys/mman.h>

#include "runtime/base/error.h"
#include "tools/llama/llama.h"

namespace tandem::llama {
#ifdef TANDEM_HAVE_OPENBLAS
namespace {

constexpr std::size_t kBufferBytes = std::size_t{128} << 20;  // of one thread of OpenBLAS on x86-64

/// OpenBLAS asks for the buffer of a thread again and again, for ever, where it cannot be had, so it must be known
/// before that it can. Which threads have theirs already is not known: all are counted.
void check_buffers(int threads) {
  std::vector<void*> buffers;
  while (std::ssize(buffers) < threads) {
    void* buffer = ::mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) break;
    buffers.push_back(buffer);
  }
  const auto found = std::ssize(buffers);
  for (void* buffer : buffers) ::munmap(buffer, kBufferBytes);
  TANDEM_CHECK(found == threads, out_of_memory, "out of memory: the matrix products of ", threads, " threads need ",
               threads, " buffers of ", kBufferBytes >> 20, " MiB, and there is room for ", found,
               "; allow more (ulimit -v), or fewer threads (--threads 1 with OPENBLAS_NUM_THREADS=1)");
}

/// Takes the buffer of this thread before anything else can: small products do without one.
void take_buffer() {
  constexpr int kSize = 256;
  const std::vector<float> zeros(std::size_t{kSize} * kSize, 0.f);
  std::vector<float> product(zeros.size());
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kSize, kSize, kSize, 1.f, zeros.data(), kSize, zeros.data(),
              kSize, 0.f, product.data(), kSize);
}

}  // namespace

void set_blas_threads(int threads) {
  check_buffers(std::max(threads, openblas_get_num_threads()));
  openblas_set_num_threads(threads);
  take_buffer();
}

#else

void set_blas_threads(int /*threads*/) {}

#endif
}  // namespace tandem::llama
