"""English sentences out of docstrings: markup, code, tables and signatures are dropped, the descriptions kept."""

import re

_HEADING_RULE = re.compile(r"^\s*([=\-~^\"'#*+`])\1{2,}\s*$")
_TABLE = re.compile(r"^\s*(\||\+[-=+]+|[=\-]{2,}(\s+[=\-]{2,})+)")
_FENCE = re.compile(r"^\s*(```|~~~)")
_PROMPT = re.compile(r"^\s*(>>>|\.\.\.|\$ |In \[\d+\])")
_DIRECTIVE = re.compile(r"^\s*\.\.\s*(?P<name>[\w:.\-]+?)::\s*(?P<rest>.*)$")
_COMMENT_OR_TARGET = re.compile(r"^\s*\.\.(\s|$)")
_PROSE_DIRECTIVES = {"note", "warning", "tip", "important", "seealso", "caution", "hint", "attention"}
_FIELD = re.compile(r"^\s*:(?:param|parameter|arg|type|rtype|returns?|raises?|keyword|ivar|var)\b[^:]*:\s*")
# `name (type, optional): description`, as Google and Hugging Face style write arguments, bullets included.
_GOOGLE_ARGUMENT = re.compile(r"^\s*(?:[-*]\s+)?[*`\w.,\[\]/ ]{1,60}?(?:\s*\((?:[^()]|\([^()]*\))*\))?\s*:(?:\s+|$)")
# The same at the left margin, where only an identifier counts as a name.
_MARGIN_ARGUMENT = re.compile(r"^(?:-\s+)?[*`]*[a-z_]\w*[*`]*(?:\s*\((?:[^()]|\([^()]*\))*\))?\s*(?::|--)\s+")
# `name : type`, as numpy style writes arguments: the description is on the next lines.
_NUMPY_ARGUMENT = re.compile(r"^\s*[*\w.,\s]{1,40} : \S")
_SECTION = re.compile(r"^\s*[A-Z]\w*(?: \w+){0,2}:\s*$")  # "Args:", "Return type:"
_BULLET = re.compile(r"^\s*(?:[-*+•]|\(?\d{1,2}[.)]|\(?[a-z][.)])\s+")

_INLINE = (
    (re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)"), r"\1"),  # [text](address)
    (re.compile(r"`([^`<>]+?)\s*<[^<>`]*>`_{0,2}"), r"\1"),  # `text <address>`_
    (re.compile(r":[\w:+.\-]+:`[~!]?(?:[\w.]*\.)?([^`]*)`"), r"\1"),  # :class:`~package.Name`
    (re.compile(r"\[`{1,2}~?([^`\]]+)`{1,2}\]"), r"\1"),  # [`Name`]
    (re.compile(r"<[^<>]{1,80}>"), " "),
    (re.compile(r"(?:https?|ftp)://\S+|www\.\S+"), " "),
    (re.compile(r"\[[\w,\s#*]{1,12}\]_+|\|\w+\|_*"), " "),  # [1]_ and |substitution|
    (re.compile(r"`{1,2}([^`]*)`{1,2}_{0,2}"), r"\1"),
    (re.compile(r"(?<!\w)(\*{1,3}|_{2})(?=\S)([^*_]+?)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"\\(?=[^\w\s])|\\ "), ""),
)
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|cf|vs|al|eq|fig|sec|resp|approx|no|dr|mr|mrs|st)|\b[A-Z])\.$", re.I)
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_WORD = re.compile(r"(?<![\w.])[A-Za-z][a-z']*(?![\w(=\[{])")


def sentences(paragraph: str) -> list[str]:
    """Splits one paragraph where a sentence ends and the next begins with a capital or a digit."""
    parts, start = [], 0
    for match in _SENTENCE_END.finditer(paragraph):
        if _ABBREVIATION.search(paragraph[start : match.start() + 1]):
            continue
        parts.append(paragraph[start : match.end()].strip())
        start = match.end()
    parts.append(paragraph[start:].strip())
    return [part for part in parts if part]


def paragraphs(docstring: str) -> list[str]:
    """The English paragraphs of a docstring (reStructuredText, Google, numpy or Markdown style), each on one line.

    Dropped: code (prompts, fences, literal blocks), directives other than notes and warnings, tables, headings,
    argument names and types, addresses, and whatever is left that does not read as at least four English words.
    """
    result, lines = [], []

    def flush() -> None:
        text = _plain(" ".join(lines))
        lines.clear()
        if _is_english(text):
            result.append(text)

    for line in _prose_lines(docstring):
        if not line.strip():
            flush()
            continue
        stripped, starts_item = _without_argument(line)
        if starts_item:
            flush()
        if stripped:
            lines.append(stripped)
    flush()
    return result


def _prose_lines(docstring: str) -> list[str]:
    """The lines that may be prose; every dropped block leaves one blank line, so that paragraphs stay apart."""
    kept: list[str] = []
    fenced = prompt = False
    block_indent = None  # inside an indented block that is dropped: the indentation of the line that opened it
    for line in docstring.expandtabs().splitlines():
        blank = not line.strip()
        indent = len(line) - len(line.lstrip())
        if _FENCE.match(line):
            fenced = not fenced
            kept.append("")
            continue
        if blank:
            prompt = False
        if block_indent is not None and not blank and indent <= block_indent:
            block_indent = None
        if fenced or block_indent is not None or blank:
            kept.append("")
            continue
        prompt = prompt or bool(_PROMPT.match(line))
        directive = _DIRECTIVE.match(line)
        if directive and directive["name"].lower() in _PROSE_DIRECTIVES:
            kept += ["", directive["rest"]]
        elif directive or _COMMENT_OR_TARGET.match(line):
            block_indent = indent
            kept.append("")
        elif _HEADING_RULE.match(line):
            if kept:
                kept[-1] = ""  # the heading's own line stands above its rule
            kept.append("")
        elif prompt or _TABLE.match(line):
            kept.append("")
        elif line.rstrip().endswith("::"):
            kept.append(line.rstrip()[:-1])
            block_indent = indent
        else:
            kept.append(line)
    return kept


def _without_argument(line: str) -> tuple[str, bool]:
    """The line without an argument's name and type or a bullet, and whether it begins an item of its own."""
    if _SECTION.match(line) or _NUMPY_ARGUMENT.match(line):
        return "", True
    argument = _GOOGLE_ARGUMENT if line[:1].isspace() else _MARGIN_ARGUMENT
    field = _FIELD.match(line) or argument.match(line)
    if field:
        return line[field.end() :].strip(), True
    bullet = _BULLET.match(line)
    if bullet:
        return line[bullet.end() :].strip(), True
    return line.strip(), False


def _plain(text: str) -> str:
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return " ".join(text.split()).strip(" -*:|")


def _is_english(text: str) -> bool:
    words = _WORD.findall(text)
    return len(words) >= 4 and sum(map(len, words)) >= 0.6 * len(text.replace(" ", ""))
