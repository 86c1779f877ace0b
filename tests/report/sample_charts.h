#pragma once

#include "tools/report/bar_chart.h"
#include "tools/report/heat_map.h"
#include "tools/report/line_chart.h"
#include "tools/report/page.h"
#include "tools/report/roofline.h"
#include "tools/report/scatter.h"
#include "tools/report/timeline.h"

namespace tandem::report {

/// One chart of each kind, with made-up figures in the sizes that machines have.
LineChart sample_lines();
BarChart sample_bars();
HeatMap sample_heat();
Roofline sample_roofline();
Timeline sample_timeline();
Scatter sample_scatter();

/// Every chart with what it must survive: no data, one point, long names, many series, crowded and huge values.
Page stress_page();

}  // namespace tandem::report
