"""Sites by name, in all blocks that have them."""

from collections.abc import Sequence

from bertkernels.analysis.layers import LayeredModel
from bertkernels.errors import InputError


def blocks_with(layered: LayeredModel, site: str) -> list[int]:
    """The blocks that have this site. Raises InputError where none has, listing what there is."""
    found = [block for block in range(len(layered.blocks)) if site in layered.sites(block)]
    if not found:
        raise InputError(f"no block has a site {site!r}; there are {', '.join(all_sites(layered))}")
    return found


def all_sites(layered: LayeredModel) -> list[str]:
    """The sites that any block has."""
    return list(dict.fromkeys(site for block in range(len(layered.blocks)) for site in layered.sites(block)))


def chosen_sites(layered: LayeredModel, names: Sequence[str] | None) -> list[str]:
    """These, or without names all. Raises InputError for one that no block has."""
    if names is None:
        return all_sites(layered)
    for name in names:
        blocks_with(layered, name)
    return list(dict.fromkeys(names))
