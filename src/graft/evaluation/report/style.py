"""The style of run pages: for phones and desktops, in light and dark, and for print."""

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --faint: #57606a; --line: #d0d7de; --card: #f6f8fa;
  --accent: #0b5cad; --second: #9a5b00; --error: #b3261e; --warning: #7a4f00; --info: #2b5f9e; --good: #1a6b35;
  --band: #0b5cad26; --heat: #0b5cad; --shade: #0004 }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --ink: #e6e9ed; --faint: #a3abb5; --line: #3a424c;
  --card: #1d2228; --accent: #79b8ff; --second: #f0b35e; --error: #ff8a80; --warning: #f2b84b; --info: #8ab8f0;
  --good: #7fd99a; --band: #79b8ff2e; --heat: #3f8fe0; --shade: #fff5 } }
* { box-sizing: border-box }
html { scroll-behavior: smooth } @media (prefers-reduced-motion) { html { scroll-behavior: auto } }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 } h2 { font-size: 1.25rem; margin: 0 0 .5rem }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem } p { margin: .35rem 0; max-width: 48rem }
a { color: var(--accent) } a:focus-visible, [tabindex]:focus-visible, summary:focus-visible { outline: 3px solid
  var(--accent); outline-offset: 2px } .skip { position: absolute; left: -99rem } .skip:focus { position: static }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none; margin: .75rem 0 }
section { border-top: 1px solid var(--line); margin-top: 1.75rem; padding-top: 1.25rem }
.verdict { font-size: 1.1rem } .verdict p { margin: .5rem 0 }
.faint { color: var(--faint); font-size: .875rem }
b.error { color: var(--error) } b.warning { color: var(--warning) } b.info { color: var(--info) }
b.good { color: var(--good) }
ul.alarms { padding: 0; list-style: none } ul.alarms li { border: 1px solid var(--line); border-left: 4px solid
  var(--warning); background: var(--card); border-radius: 4px; padding: .5rem .75rem; margin: .5rem 0 }
ul.alarms li.error { border-left-color: var(--error) }
/* A shadow at a side where a table goes on: the grounds scroll with it and cover the shadows at its ends. */
.scroll { overflow-x: auto; max-width: 100%; background: linear-gradient(90deg, var(--ground) 50%, transparent) 0 0 /
  2.5rem 100% no-repeat local, linear-gradient(270deg, var(--ground) 50%, transparent) 100% 0 / 2.5rem 100% no-repeat
  local, linear-gradient(90deg, var(--shade), transparent) 0 0 / 1rem 100% no-repeat scroll,
  linear-gradient(270deg, var(--shade), transparent) 100% 0 / 1rem 100% no-repeat scroll }
.scroll > table { margin: .25rem 0 }
table { border-collapse: collapse; font-size: .9375rem }
caption { text-align: left; color: var(--faint); padding-bottom: .25rem; white-space: nowrap }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; overflow-wrap: normal }
td { white-space: nowrap } th { font-weight: 600 } thead th { vertical-align: bottom }
th:first-child, td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 6rem }
.confusion th:not(:first-child) { font-weight: 400; max-width: 7rem } .confusion td { text-align: center }
.charts { display: flex; flex-wrap: wrap; gap: 1rem 2rem } .charts figure { width: 22rem; max-width: 100% }
svg { display: block; max-width: 100%; height: auto; font: 12px system-ui, sans-serif }
svg text { fill: var(--ink) } svg .axis { stroke: var(--faint); stroke-width: 1 } svg .tick { fill: var(--faint) }
svg .grid { stroke: var(--line); stroke-width: 1 } svg .one { stroke: var(--accent); fill: none; stroke-width: 2 }
svg .two { stroke: var(--second); fill: none; stroke-width: 2; stroke-dasharray: 5 3 }
svg .dot { fill: var(--accent) } svg .dot2 { fill: var(--second) } svg .bar { fill: var(--faint); opacity: .45 }
svg .band { fill: var(--band) } svg .guide { stroke: var(--faint); stroke-dasharray: 3 3; fill: none }
figure { margin: 0 } figcaption { font-size: .875rem; color: var(--faint); line-height: 1.35; margin-top: .25rem }
.sheet { display: flex; flex-wrap: wrap; gap: .75rem; margin: .5rem 0 }
.sheet figure { width: 8rem } .sheet figure.wide { width: 16.5rem } .sheet img { display: block; max-width: 100%;
  height: auto; border-radius: 3px } .sheet .both { display: flex; gap: .5rem; align-items: start }
.sheet .both img { max-width: 8rem } .sheet figcaption { font-size: .8125rem }
.nearest { margin-top: .35rem; padding-top: .25rem; border-top: 1px solid var(--line) } .nearest ul { display: flex;
  gap: .5rem; padding: 0; margin: .25rem 0 0; list-style: none } .nearest li { flex: 1 1 0; min-width: 0;
  font-size: .75rem; line-height: 1.3 } .nearest img { max-height: 5rem; width: auto; margin-bottom: .2rem }
.none { height: 4rem; display: grid; place-items: center; border: 1px dashed var(--line); color: var(--faint);
  font-size: .8125rem }
.small { image-rendering: pixelated }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .25rem 1rem; margin: .5rem 0 }
dt { color: var(--faint) } dd { margin: 0 } summary { cursor: pointer; color: var(--accent) }
code { font-family: ui-monospace, monospace; font-size: .875rem }
.two-runs { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem 2rem }
@media (max-width: 40rem) { .two-runs { grid-template-columns: 1fr } }
@page { size: A4; margin: 14mm }
@media print { :root { --ground: #fff; --ink: #000; --faint: #444; --line: #bbb; --card: #fff; --accent: #0b5cad;
  --second: #9a5b00; --error: #b3261e; --warning: #7a4f00; --info: #2b5f9e; --good: #1a6b35; --band: #0b5cad26;
  --heat: #0b5cad } body { max-width: none; padding: 0; font-size: 10pt } nav, .skip { display: none }
  figure, li, tr { break-inside: avoid } h2, h3 { break-after: avoid } .scroll { overflow: visible } }
"""
