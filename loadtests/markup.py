"""What the report's HTML is made of: style, tables, lists, and the words at its end."""

from collections.abc import Iterable, Sequence
from html import escape

from loadtests.steps import WARM_UP_SECONDS

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#111827;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin:0}
h2{font-size:1.25rem;margin:2.4rem 0 .4rem;border-bottom:1px solid #e5e7eb;padding-bottom:.3rem}
h3{font-size:1rem;margin:1.4rem 0 .3rem}
.verdict{border-radius:8px;padding:.8rem 1.1rem;margin:1rem 0}
.verdict b{font-size:1.15rem}
.pass{background:#dcfce7}
.fail{background:#fee2e2}
.untold{background:#fef3c7}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(460px,1fr));gap:14px}
.plots svg{border:1px solid #e5e7eb;border-radius:8px;width:100%}
table{border-collapse:collapse;font-size:13px;margin:.4rem 0}
td,th{padding:3px 12px 3px 0;text-align:right;border-bottom:1px solid #f0f1f3;white-space:nowrap}
th{font-weight:600}
td:first-child,th:first-child{text-align:left}
.wide td:last-child,.wide th:last-child{text-align:left;white-space:normal}
.note{color:#4b5563}
.bad{color:#b91c1c}
.good{color:#15803d}
ul{margin:.3rem 0}
"""


def how_to_read() -> str:
    """For somebody who was not there."""
    return f"""<h2>How to read this</h2><ul>
<li><b>Open loop.</b> Operations begin when they are due, whether or not those before are done, and their time counts from that moment.
A test whose users wait for each answer slows down with the server and hides its queues.</li>
<li><b>An operation</b> is one request, or several that need each other: reserve and commit.
Rates are of operations where they are offered, and of requests where they are served.</li>
<li><b>Refused</b> is 503 or 429 with <code>Retry-After</code>: the server protects itself. An error is all else that is no proper answer.</li>
<li><b>The first {WARM_UP_SECONDS:g} s</b> of a step are not counted.
A step is void, and proves nothing, when less than 98 % of its arrivals went out, or when the generator was saturated.</li>
<li><b>The knee</b> is the highest rate that met every objective. A rate that failed was tried twice.</li>
</ul>"""


def grid(plots: Iterable[str]) -> str:
    """Plots side by side."""
    return f'<div class="plots">{"".join(plots)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, raw: bool = False, kind: str = "") -> str:
    """Rows under a head; `raw` cells are HTML already."""
    show = str if raw else escape
    lines = "".join("<tr>" + "".join(f"<td>{show(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{kind}"><tr>{"".join(f"<th>{escape(cell)}</th>" for cell in head)}</tr>{lines}</table>'


def bullets(lines: Iterable[str]) -> str:
    """A list; nothing of nothing."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def ms(value: float | None) -> str:
    """Milliseconds, or nothing."""
    return "" if value is None else f"{value:.1f} ms"
