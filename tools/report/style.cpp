#include "tools/report/style.h"

namespace tandem::report {

const char* const kStyle = R"css(
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --muted: #5a636e; --rule: #d9dde2; --grid: #e8eaed; --axis: #8b949e;
  --tint: #f5f7f9; --accent: #0067a3; --caution: #a84300; --heat: #08437c;
  --heat-low: #1b1f24; --heat-mid: #1b1f24; --heat-high: #ffffff;
  --s0: #0067a3; --s1: #bd4a00; --s2: #00795c; --s3: #a0417c;
  --s4: #4a3a00; --s5: #3a414b; --s6: #6a5ad0; --s7: #6e0f22;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e4e7eb; --muted: #9aa4af; --rule: #333a42; --grid: #262b31; --axis: #6b7580;
    --tint: #1c2025; --accent: #62b6f0; --caution: #ff9d5c; --heat: #86c8ff;
    --heat-low: #e4e7eb; --heat-mid: #0d1013; --heat-high: #0d1013;
    --s0: #62b6f0; --s1: #ff9350; --s2: #3fcca2; --s3: #e48fc2;
    --s4: #f4e08e; --s5: #d3d9e0; --s6: #8f80ee; --s7: #e0606e;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 768px; margin: 0 auto; padding: 56px 24px 96px; }
header { margin-bottom: 40px; padding-bottom: 24px; border-bottom: 1px solid var(--rule); }
h1, h2, aside { overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 32px; line-height: 1.2; font-weight: 600; letter-spacing: -0.015em; text-wrap: balance; }
header p { margin: 10px 0 0; color: var(--muted); }
nav { display: flex; flex-wrap: wrap; gap: 2px 22px; margin-top: 18px; font-size: 14px; }
nav a { max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
h2 { margin: 56px 0 12px; font-size: 21px; line-height: 1.3; font-weight: 600; letter-spacing: -0.01em; }
p { margin: 0 0 16px; max-width: 68ch; overflow-wrap: anywhere; }
code { font: 0.88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--tint);
  padding: 1px 5px; border-radius: 4px; overflow-wrap: anywhere; }
aside { margin: 24px 0; padding: 14px 18px; background: var(--tint); border-left: 3px solid var(--accent);
  border-radius: 0 4px 4px 0; font-size: 15px; }
aside.caution { border-color: var(--caution); }
aside strong { display: block; font-weight: 600; }
aside p { margin: 0; }
figure { margin: 32px 0 40px; }
figcaption { margin-top: 8px; font-size: 14px; line-height: 1.5; color: var(--muted); max-width: 76ch;
  overflow-wrap: anywhere; }
figcaption b, caption b { color: var(--ink); font-weight: 600; }
.scroll { overflow-x: auto; margin: 28px 0 36px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; line-height: 1.4;
  font-variant-numeric: tabular-nums lining-nums; }
caption { text-align: left; padding-bottom: 10px; font-size: 14px; color: var(--muted); }
th { text-align: left; font-weight: 500; color: var(--muted); vertical-align: bottom; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--rule); }
td { vertical-align: baseline; overflow-wrap: break-word; }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-bottom: 1px solid var(--axis); }
tbody tr:last-child td { border-bottom: 1px solid var(--axis); }
.number { text-align: right; white-space: nowrap; }
.range, .kind { white-space: nowrap; }
.number, .range, .kind, .beside { width: 1%; }
th.beside, td.beside { padding-right: 10px; }
td.kind { padding-right: 28px; }
td.range { color: var(--muted); }
.badge { display: inline-block; padding: 0 7px; font-size: 11px; line-height: 17px; border-radius: 9px;
  border: 1px solid currentColor; vertical-align: 1px; white-space: nowrap; }
.badge.measured { color: var(--s2); }
.badge.published { color: var(--s0); }
.badge.assumed { color: var(--s1); border-style: dashed; }
.narrow { display: none; }
@media screen and (max-width: 639px) {
  main { padding: 32px 16px 64px; }
  h1 { font-size: 26px; }
  .wide { display: none; }
  .narrow { display: block; }
  .narrow svg { width: 100%; max-width: 460px; }
}
svg { display: block; max-width: 100%; height: auto; overflow: hidden; font-variant-numeric: tabular-nums lining-nums; }
svg text { fill: var(--ink); font-size: 12px; font-weight: 400; }
svg .title { fill: var(--muted); }
svg .tick { fill: var(--muted); font-size: 11px; }
svg .small { font-size: 11px; }
svg .label, svg .named, svg .peak-name { paint-order: stroke; stroke: var(--paper); stroke-width: 3px;
  stroke-linejoin: round; }
svg .named { fill: var(--c); }
svg .peak-name { fill: var(--muted); font-size: 11px; }
svg .inside { font-size: 11px; pointer-events: none; }
svg .cell { font-size: 11px; pointer-events: none; }
svg .cell.low { fill: var(--heat-low); }
svg .cell.mid { fill: var(--heat-mid); }
svg .cell.high { fill: var(--heat-high); }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); } .s7 { --c: var(--s7); }
.grid { stroke: var(--grid); stroke-width: 1; }
.axis { stroke: var(--axis); stroke-width: 1; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.dashed { stroke-dasharray: 6 5; }
.line.peak { stroke: var(--axis); stroke-width: 1.5; }
.band { fill: var(--c); fill-opacity: 0.14; }
.dot { fill: var(--c); stroke: var(--paper); stroke-width: 1.5; }
.kernel { fill: var(--ink); stroke: var(--paper); stroke-width: 1.5; }
.leader { fill: none; stroke: var(--c, var(--muted)); stroke-width: 0.75; }
.bar { fill: var(--c); fill-opacity: 0.78; }
.whisker { stroke: var(--ink); stroke-width: 1.25; }
.heat { fill: var(--heat); }
.absent { fill: none; stroke: var(--grid); }
.span { fill: var(--c); fill-opacity: 0.24; stroke: var(--c); stroke-width: 0.75; }
.far { fill: var(--s0); fill-opacity: 0.11; }
.near { fill: var(--s0); fill-opacity: 0.27; }
.diagonal { stroke: var(--axis); stroke-width: 1; }
@media print {
  @page { margin: 18mm 16mm; }
  body { font-size: 11pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2 { break-after: avoid; }
  figure, aside, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  thead { display: table-header-group; }
}
)css";

}  // namespace tandem::report
