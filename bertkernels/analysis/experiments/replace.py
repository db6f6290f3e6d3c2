"""Parts of blocks replaced by the best linear map, or by a random one: what their non-linear part is worth."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bertkernels.analysis import changes
from bertkernels.analysis.changes import Modules
from bertkernels.analysis.experiments.block_ranges import WAYS, block_sets
from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.experiments.sites import blocks_with, chosen_sites
from bertkernels.analysis.jobs import Trial
from bertkernels.analysis.site_linearity import site_linearity
from bertkernels.processes.file_lock import file_lock

LEAST_SQUARES, RANDOM = "least_squares", "random"
_FOLDER = "approximators"


@dataclass
class ReplaceArguments:
    """What is replaced, and by what."""

    sites: list[str] = field(
        default_factory=lambda: ["mlp", "self_attention_ff"],
        metadata={"help": "What is replaced; any site (mlp, ffn_gelu, self_attention_ff, encoder, …)."},
    )
    approximator: Literal["least_squares", "random"] = field(
        default=LEAST_SQUARES,
        metadata={
            "help": "least_squares: the linear map of each token that is best on the training rows "
            "(--max_train_samples); random: one that only fine-tuning makes anything of."
        },
    )
    blocks: list[str] = field(
        default_factory=lambda: list(WAYS),
        metadata={"help": "single: in each block alone; forward: in the first so many; backward: in the last."},
    )


class Replace(ModelExperiment):
    """Approximators are fitted on training rows, of all blocks at once, and kept in the experiment's folder."""

    name = "replace"
    options: ReplaceArguments

    def own_settings(self) -> dict:
        fitted = self.options.approximator == LEAST_SQUARES
        rows = {"fitted_on": len(self.subject.train.features)} if fitted else {}
        return {"approximator": self.options.approximator, **rows}

    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        layered = self.subject.layered
        return [
            Trial(
                f"replace {site} {way} {','.join(map(str, blocks))}",
                {"site": site, "way": way, "blocks": blocks},
                tuple(changes.replace(block, site) for block in blocks),
            )
            for site in chosen_sites(layered, self.options.sites)
            for way, blocks in block_sets(self.options.blocks, blocks_with(layered, site))
        ]

    def modules(self) -> Modules:
        return self._random if self.options.approximator == RANDOM else self._fitted

    def _random(self, block: int, site: str) -> nn.Module:
        """Weights as the published code draws them."""
        widths = self.subject.layered.site(block, site).widths
        return _linear(
            torch.nn.init.trunc_normal_(
                torch.empty(widths[::-1]),
                std=0.02,
                a=-0.04,
                b=0.04,
                generator=torch.Generator().manual_seed(1000 * self.run.seed + block),
            ),
            torch.zeros(widths[1]),
            self._like,
        )

    def _fitted(self, block: int, site: str) -> nn.Module:
        folder = self.folder / _FOLDER
        folder.mkdir(exist_ok=True)
        file = folder / f"{site}.safetensors"
        with file_lock(folder / f".{site}.lock"):
            if not file.is_file():
                written = file.with_suffix(".writing")
                save_file(self._fit(site), written)
                written.replace(file)
        found = load_file(file)
        return _linear(found[f"{block}.weight"], found[f"{block}.bias"], self._like)

    def _fit(self, site: str) -> dict[str, torch.Tensor]:
        subject = self.subject
        held_out = next(iter(subject.evaluation.values())).features
        probes = site_linearity(
            subject.layered,
            subject.batches(subject.train.features),
            subject.batches(held_out),
            [(block, site) for block in blocks_with(subject.layered, site)],
        )
        found = {}
        for (block, _), linearity in probes.items():
            module = linearity.token.probe.linear(torch.zeros((), dtype=torch.float32))
            found |= {f"{block}.weight": module.weight.data.clone(), f"{block}.bias": module.bias.data.clone()}
        return found

    @property
    def _like(self) -> torch.Tensor:
        return next(self.subject.model.parameters())


def _linear(weight: torch.Tensor, bias: torch.Tensor, like: torch.Tensor) -> nn.Linear:
    """weight [Dy, Dx], bias [Dy] as a layer in the dtype and on the device of `like`."""
    module = nn.Linear(weight.shape[1], weight.shape[0], dtype=like.dtype, device=like.device)
    with torch.no_grad():
        module.weight.copy_(weight)
        module.bias.copy_(bias)
    return module
