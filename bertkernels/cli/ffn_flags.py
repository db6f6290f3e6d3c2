"""The flags of `bertkernels search --space ffn`, for the command and for its workers."""

from typing import TYPE_CHECKING

from bertkernels.cli.arguments import parse_arguments

if TYPE_CHECKING:
    from bertkernels.search.ffn_arguments import FfnSearchArguments
    from bertkernels.training.distill_arguments import DistillArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

_DESCRIPTION = (
    "Searches for a genotype: what the feed-forward layer of each block computes, how many are stacked and how wide "
    "they are, by EfficientBERT's three stages. Candidates are cut out of a supernet of `bertkernels distill`; how "
    "they train and on which task are flags of `bertkernels distill`. The same command again goes on with a search "
    "that was cut short, and joins one that runs."
)


def parse_ffn_search(
    argv: list[str], more: list[str]
) -> tuple["FfnSearchArguments", "DistillArguments", "FinetuneRunArguments"]:
    """The arguments of these flags, of which later ones win."""
    from bertkernels.search.ffn_arguments import FfnSearchArguments
    from bertkernels.training.distill_arguments import DistillArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

    return parse_arguments(
        "search", _DESCRIPTION, [*argv, *more], FfnSearchArguments, DistillArguments, FinetuneRunArguments
    )
