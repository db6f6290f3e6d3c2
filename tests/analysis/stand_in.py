"""A small layered model with the interface of `layers.LayeredModel`, whose padding can hold anything."""

import contextlib
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class StandInSite:
    mixes: bool


class StandInModel(nn.Module):
    """Blocks of a convolution over three real tokens and a GELU network of each token, on embedded ids [B, T]."""

    def __init__(self, blocks: int = 2, width: int = 6, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embeddings = nn.Embedding(50, width)
        self.mixing = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(blocks))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(blocks)
        )
        self.dropout = nn.Dropout(0.5)
        self.at_padding = float("nan")
        self.seen = {}

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask.bool()[:, :, None]
        x = self.embeddings(input_ids)
        for block, (mixing, mlp) in enumerate(zip(self.mixing, self.mlp, strict=True)):
            real = x.where(mask, 0)
            none = torch.zeros_like(real[:, :1])
            left, right = torch.cat([none, real[:, :-1]], 1), torch.cat([real[:, 1:], none], 1)
            mixed = self.dropout(mixing(torch.cat([left, real, right], -1)))
            y = mlp(mixed)
            for site, pair in {"mixing": (x, mixed), "mlp": (mixed, y), "encoder": (x, y)}.items():
                self.seen[block, site] = tuple(z.where(mask, self.at_padding) for z in pair)
            x = y
        return x


class StandIn:
    """What probes and tracking ask of a `LayeredModel`."""

    def __init__(self, model: StandInModel | None = None) -> None:
        self.model = model or StandInModel()
        self.blocks = list(self.model.mlp)

    def site(self, block: int, name: str) -> StandInSite:
        return StandInSite(mixes=name != "mlp")

    @contextlib.contextmanager
    def capture(self, wanted):
        captured = {}
        forward = self.model.forward

        def run(*arguments, **named):
            output = forward(*arguments, **named)
            captured.update({place: self.model.seen[place] for place in wanted})
            return output

        self.model.forward = run
        try:
            yield captured
        finally:
            del self.model.forward


def batches(count: int, rows: int = 4, tokens: int = 9, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Padded batches of rows with 1 to `tokens` real tokens."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
        ids = torch.randint(0, 50, (rows, tokens), generator=generator)
        found.append({"input_ids": ids, "attention_mask": (torch.arange(tokens) < lengths).long()})
    return found
