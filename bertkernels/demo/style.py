"""The report's style sheet."""

CSS = """
:root { --ink: #1f2933; --soft: #52606d; --line: #e4e7eb; --ours: #0f766e; --pale: #f5f7fa; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.25rem; margin: 44px 0 8px; padding-top: 20px; border-top: 1px solid var(--line); }
p { margin: 8px 0; }
.soft, figcaption, caption { color: var(--soft); font-size: .92rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(145px, 1fr)); gap: 12px; margin: 24px 0 8px; }
.card { background: var(--pale); border-radius: 10px; padding: 14px 16px; }
.card b { display: block; font-size: 1.5rem; line-height: 1.2; color: var(--ours); }
.card span { color: var(--soft); font-size: .88rem; }
figure { margin: 16px 0; }
figure img { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 12px 0; min-width: 60%; font-size: .95rem; }
caption { text-align: left; padding-bottom: 6px; }
th, td { padding: 6px 18px 6px 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.ours td { color: var(--ours); font-weight: 600; }
pre { background: var(--pale); border-radius: 8px; padding: 12px 14px; font-size: .85rem;
  margin: 6px 0 16px; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; font-size: .93rem; }
dt { color: var(--soft); }
dd { margin: 0; }
@media print { main { padding: 0; } }
"""
