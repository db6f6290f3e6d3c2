"""Small pieces of HTML. Whatever is put in as text is escaped."""

import base64
from collections.abc import Sequence
from html import escape


def paragraph(text: str, soft: bool = False) -> str:
    """One paragraph."""
    return f"<p{_soft(soft)}>{escape(text)}</p>"


def card(value: str, what: str) -> str:
    """A number that stands out, with what it is."""
    return f'<div class="card"><b>{escape(value)}</b><span>{escape(what)}</span></div>'


def cards(*items: str) -> str:
    """Cards in a row."""
    return f'<div class="cards">{"".join(items)}</div>'


def figure(svg: str, caption: str) -> str:
    """A plot with what it shows; as an image, so that the names inside several plots do not clash."""
    text = escape(caption)
    source = base64.b64encode(svg.encode()).decode()
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{source}"><figcaption>{text}</figcaption></figure>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, ours: Sequence[int] = ()) -> str:
    """A table; the first column is text, the others are numbers. `ours`: the rows to set off."""
    cells = "".join(f"<th{_number(column)}>{escape(text)}</th>" for column, text in enumerate(head))
    body = "".join(
        f"<tr{_ours(number in ours)}>"
        + "".join(f"<td{_number(column)}>{escape(text)}</td>" for column, text in enumerate(row))
        + "</tr>"
        for number, row in enumerate(rows)
    )
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(items: Sequence[tuple[str, str]]) -> str:
    """Names and values."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in items) + "</dl>"


def code(text: str) -> str:
    """Lines to copy."""
    return f"<pre><code>{escape(text)}</code></pre>"


def _soft(yes: bool) -> str:
    return ' class="soft"' if yes else ""


def _number(column: int) -> str:
    return ' class="n"' if column else ""


def _ours(yes: bool) -> str:
    return ' class="ours"' if yes else ""
