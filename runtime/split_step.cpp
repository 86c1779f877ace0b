#include "runtime/split_step.h"

#include <new>
#include <string>

#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace tandem {
namespace {

constexpr double kNsPerUs = 1000;

double worker_ns(const StepBuffers& buffers, const Task& task) {
  double us = task.helped_us;
  for (std::int32_t i = 0; i < task.num_pieces; ++i) {
    const StepStats& part = buffers.parts[static_cast<std::size_t>(task.first_piece + i)];
    us += part.trace[Stage::select].us + part.trace[Stage::attend].us;
  }
  return us * kNsPerUs;
}

/// One query token of one layer: heads that could not select ran the other way.
struct MeasuredQuery {
  SplitMeasurement dense, selecting;

  void add(const StepContext& step, const StepBuffers& buffers, const Task& task) noexcept {
    const cpu::KvStore& store = task.head_state().store;
    const lsh::SelectionCost cost(step.config.profile, task.selector->params(), store.layout(),
                                  step.config.shape.group_size());
    const std::int64_t rows =
        visible_rows(task, {0.f, nullptr, step.request.sliding_window}, task.first_position).count();
    const auto visible = static_cast<double>(rows);
    SplitMeasurement& sum = task.exact ? dense : selecting;
    sum.measured_ns += worker_ns(buffers, task);
    sum.predicted_ns += task.exact ? cost.dense_ns(visible) : cost.select_ns(visible);
    sum.rows += rows;
  }
};

std::string per_row(const MeasuredWay& way) {
  if (way.steps == 0) return "not measured";
  const auto rows = static_cast<double>(way.median.rows);
  return concat(way.median.measured_ns / rows, " ns a row, predicted ", way.median.predicted_ns / rows, ", median of ",
                way.steps, " steps");
}

std::string where_it_pays(std::int64_t crossover) {
  return crossover < 0 ? std::string("never") : concat("from ", crossover, " rows on");
}

void report(const SplitTurn& turn) {
  log(LogLevel::info,
      concat("auto_split: sequence ", turn.sequence, ", layer ", turn.layer_index, ": from position ", turn.position,
             " on it selects ", where_it_pays(turn.crossover), ", before: ", where_it_pays(turn.former_crossover),
             "; dense ", per_row(turn.figures.dense), "; selecting ", per_row(turn.figures.selecting)));
}

}  // namespace

void measure_split(const StepContext& step, const StepBuffers& buffers, Split& split) noexcept {
  if (!step.config.auto_split || !buffers.streamed.empty()) return;
  const std::vector<Task>& tasks = buffers.tasks;
  for (std::size_t begin = 0, end = 0; begin < tasks.size(); begin = end) {  // the heads of a query are consecutive
    MeasuredQuery query;
    do {
      if (tasks[end].is_measured) query.add(step, buffers, tasks[end]);
    } while (++end < tasks.size() && tasks[end].first_row == tasks[begin].first_row);
    split.add(Split::Way::dense, query.dense);
    split.add(Split::Way::selecting, query.selecting);
  }
}

void take_over(const std::vector<SplitTurn>& turns) noexcept {
  for (const SplitTurn& turn : turns) {
    turn.layer->split = turn.next;
    if (turn.crossover == turn.former_crossover) continue;
    try {
      report(turn);
    } catch (const std::bad_alloc&) {  // the step has succeeded, whatever becomes of the message
    }
  }
}

}  // namespace tandem
