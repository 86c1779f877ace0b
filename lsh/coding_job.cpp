#include "lsh/coding_job.h"

#include <atomic>
#include <new>
#include <string>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace tandem::lsh {
namespace {

void log_refusal(const char* reason) {
  static std::atomic_flag logged;
  if (logged.test_and_set()) return;
  log(LogLevel::warning, concat("sketch index: no memory to re-calibrate; older maps stay in use: ", reason));
}

}  // namespace

CodedRows unless_refused(const CodingJob::Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
    log_refusal(error.what());
  } catch (const std::bad_alloc& error) {
    log_refusal(error.what());
  }
  return {};
}

CodingJob::CodingJob(std::int64_t rows, Work work)
    : rows_(rows), task_([this, work = std::move(work)] { result_ = unless_refused(work); }) {}

std::shared_ptr<CodingJob> CodingJob::submit(BackgroundThread& thread, std::int64_t rows, Work work) {
  auto job = std::make_shared<CodingJob>(rows, std::move(work));
  thread.submit(std::shared_ptr<BackgroundTask>(job, &job->task_));
  return job;
}

const CodedRows& CodingJob::result() {
  task_.finish();
  return result_;
}

}  // namespace tandem::lsh
