#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "lsh/coded_rows.h"
#include "runtime/base/background.h"

namespace tandem::lsh {

/// The coding of some rows by a map of their own, away from the steps. Forks share it. Thread-safe.
class CodingJob {
 public:
  using Work = std::function<CodedRows()>;
  /// A job that codes rows [0, rows), submitted to `thread`.
  static std::shared_ptr<CodingJob> submit(BackgroundThread& thread, std::int64_t rows, Work work);
  CodingJob(std::int64_t rows, Work work);

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  /// Waits for the end, or does the work here if it has not begun. Without a map when there was no memory; other
  /// exceptions are rethrown.
  [[nodiscard]] const CodedRows& result();

 private:
  std::int64_t rows_;
  CodedRows result_;
  BackgroundTask task_;
};

/// The result of `work`; rows without a map, and one warning in the life of the process, when there is no memory.
CodedRows unless_refused(const CodingJob::Work& work);

}  // namespace tandem::lsh
