"""What became of the text, as JSON and as lines to read."""

from bertkernels.data.prepared.counts import Counts
from bertkernels.data.prepared.piece import SPLITS


def summarise(counts: list[dict[str, dict]], max_length: int) -> dict:
    """Totals over pieces, by split: those of `Counts`, and the share of padding."""
    splits = {}
    for split in SPLITS:
        total = Counts()
        for piece in counts:
            total.add(piece.get(split, {}))
        if total.examples:
            share = round(total.padding_share(max_length), 4)
            splits[split] = total.to_dict() | {"padding_share": share}
    return {"max_length": max_length, "pieces": len(counts), "splits": splits}


def summary_lines(summary: dict) -> list[str]:
    """A line for each split, and what was dropped."""
    lines = []
    for split, total in summary["splits"].items():
        lines.append(
            f"{split:>10}: {total['documents']:,} documents, {total['sentences']:,} sentences, {total['tokens']:,} "
            f"tokens -> {total['examples']:,} examples of {total['example_tokens']:,} tokens "
            f"({total['padding_share']:.1%} padding at {summary['max_length']})"
        )
        if total["dropped"]:
            dropped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(total["dropped"].items()))
            lines.append(f"{'':>10}  left out: {dropped}")
    return lines
