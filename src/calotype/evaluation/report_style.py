"""The style sheet of reports: one column of text, quiet tables, light and dark."""

CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --quiet: #656d76; --rule: #d8dee4; --ground: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --quiet: #9aa4af; --rule: #363c44; --ground: #16191d; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 650; letter-spacing: -0.015em; margin: 0 0 1.75rem; }
h2 { font-size: 1.25rem; font-weight: 650; letter-spacing: -0.005em; margin: 0 0 0.75rem; }
section { margin-top: 2.75rem; padding-top: 1.75rem; border-top: 1px solid var(--rule); }
p { max-width: 44rem; margin: 0 0 1rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1.5rem 2rem; margin: 0; }
dl > div { display: flex; flex-direction: column; }
dt { color: var(--quiet); font-size: 0.85rem; }
dd { margin: 0; }
dd strong { display: block; font-size: 1.6rem; line-height: 1.3; font-weight: 600; letter-spacing: -0.01em;
  font-variant-numeric: tabular-nums; }
dd small, .note, figcaption { color: var(--quiet); font-size: 0.85rem; line-height: 1.45; }
dd small { display: block; }
figure { margin: 1.25rem 0 1.75rem; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 3px; }
img.pixelated { image-rendering: pixelated; }
figcaption { max-width: 44rem; margin-top: 0.6rem; }
.table { overflow-x: auto; margin: 1.25rem 0 0.5rem; }
table { border-collapse: collapse; font-size: 0.92rem; }
th, td { padding: 0.4rem 1.5rem 0.4rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th { color: var(--quiet); font-weight: 500; font-size: 0.85rem; white-space: nowrap; }
th.number, td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:last-child, th:last-child { padding-right: 0; }
@media print { figure, .table { break-inside: avoid; } }
"""
