"""The networks that encoders are compared with: a row of layers of one kind between a first layer and a classifier.

A layer is a map with ReLU and, in some networks, a layer norm. Layers after the first have one shape, so they can run
in any order, and everything that is a layer's own moves with it. (In the released code layer norms stayed where they
were.) What a layer's output is added to belongs to its position.
Networks return logits. (The released fully connected ones returned probabilities and were trained as if those were
logits.)
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from bertkernels.analysis.comparison.images import Images
from bertkernels.errors import InputError

FAIR, PAPER = "fair", "paper"
INITIALISATIONS = (FAIR, PAPER)
_CHANNELS = 8
_PAPERS_DEVIATION = 1e-3


class Layer(nn.Module):
    """norm(relu(linear(x)) + skipped)"""

    def __init__(self, linear: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.linear, self.norm = linear, norm

    def forward(self, x: torch.Tensor, skipped: torch.Tensor | None = None) -> torch.Tensor:
        y = self.linear(x).relu()
        if skipped is not None:
            y = y + skipped
        return y if self.norm is None else self.norm(y)


class LayeredNetwork(nn.Module):
    """A first layer, layers that may change places, and a linear classifier.

    Attributes:
        layers: L of them, in the order in which they run; the first has its own shape.
        skips: for each position the position whose output is added there, None where none is.
    """

    def __init__(self, layers: Sequence[Layer], skips: Sequence[int | None], head: nn.Module, flat: bool) -> None:
        """flat: pictures go in as vectors."""
        super().__init__()
        self.layers, self.head = nn.ModuleList(layers), head
        self.skips, self._flat = tuple(skips), flat

    @property
    def movable(self) -> int:
        """How many layers may change places: all but the first."""
        return len(self.layers) - 1

    def states(self, images: torch.Tensor) -> list[torch.Tensor]:
        """images [N, C, S, S] → what goes into the first layer, and the outputs of all L"""
        x = images.flatten(1) if self._flat else images
        found = [x]
        for layer, skip in zip(self.layers, self.skips, strict=True):
            x = layer(x, None if skip is None else found[skip + 1])
            found.append(x)
        return found

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images [N, C, S, S] → logits [N, classes]"""
        return self.head(self.states(images)[-1].flatten(1))

    def reordered(self, order: Sequence[int]) -> "LayeredNetwork":
        """A copy whose layers after the first run in another order.

        Args:
            order: a permutation of `movable` numbers; 0 is the layer after the first.

        Raises:
            InputError: it is none, or it moves layers of different shapes.
        """
        if sorted(order) != list(range(self.movable)):
            raise InputError(f"an order must have each number from 0 to {self.movable - 1} once, got {list(order)}")
        moved = [number for position, number in enumerate(order) if number != position]
        shapes = {tuple(weight.shape for weight in self.layers[1 + number].parameters()) for number in moved}
        if len(shapes) > 1:
            raise InputError(
                f"layers {', '.join(map(str, sorted(moved)))} have different shapes and cannot change places"
            )
        network = copy.deepcopy(self)
        network.layers = nn.ModuleList([network.layers[0], *(network.layers[1 + number] for number in order)])
        return network


def mlp(images: Images, depth: int, width: int, norm: bool = False, skip: bool = False) -> LayeredNetwork:
    """Fully connected layers. `norm`: LN(relu(Wx)); with `skip` too, LN(relu(Wx) + x) after the first."""
    sizes = [images.channels * images.side**2] + [width] * depth
    layers = [
        Layer(nn.Linear(*pair), nn.LayerNorm(width) if norm else None)
        for pair in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    return LayeredNetwork(layers, _over(1, depth, skip), nn.Linear(width, images.classes), flat=True)


def cnn(images: Images, depth: int, norm: bool = False, over: int = 0) -> LayeredNetwork:
    """Convolutions of 8 channels, 5 by 5 after the first. `norm`: over channels and pixels.

    The first is 9 by 9 with a step of 2 and makes 28 or 32 pixels a side 12; of pictures with less than 16 a side,
    which that would leave too little of, 3 by 3 with a step of 1.
    `over`: 1 adds its input to each layer's output after the first, 2 to that of every third the input of the layer
    before it.
    """
    side = images.side
    kernel, stride, padding = (9, 2, 0 if side >= 32 else 2) if side >= 16 else (3, 1, 1)
    first = nn.Conv2d(images.channels, _CHANNELS, kernel, stride, padding)
    side = (side + 2 * padding - kernel) // stride + 1
    convolutions = [first] + [nn.Conv2d(_CHANNELS, _CHANNELS, 5, padding=2) for _ in range(depth - 1)]
    layers = [Layer(one, nn.LayerNorm([_CHANNELS, side, side]) if norm else None) for one in convolutions]
    head = nn.Linear(_CHANNELS * side**2, images.classes)
    return LayeredNetwork(layers, _over(over, depth, over > 0), head, flat=False)


def lenet(images: Images) -> LayeredNetwork:
    """LeNet's two convolutions with pooling and two fully connected layers, with ReLU; none of one shape with another.

    Both convolutions keep the pictures' size, so that small pictures go through too.
    """
    side = images.side // 4
    return LayeredNetwork(
        [
            Layer(nn.Sequential(nn.Conv2d(images.channels, 6, 5, padding=2), nn.MaxPool2d(2))),
            Layer(nn.Sequential(nn.Conv2d(6, 16, 5, padding=2), nn.MaxPool2d(2), nn.Flatten())),
            Layer(nn.Linear(16 * side**2, 120)),
            Layer(nn.Linear(120, 84)),
        ],
        [None] * 4,
        nn.Linear(84, images.classes),
        flat=False,
    )


# Depths and widths are those of the released code, where "long" means twelve layers.
NETWORKS: dict[str, Callable[[Images], LayeredNetwork]] = {
    "mlp": lambda images: mlp(images, 6, 278),
    "mlp-ln": lambda images: mlp(images, 6, 278, norm=True),
    "mlp-ln-skip": lambda images: mlp(images, 6, 278, norm=True, skip=True),
    "mlp-long": lambda images: mlp(images, 12, 202),
    "mlp-long-ln": lambda images: mlp(images, 12, 202, norm=True),
    "mlp-long-ln-skip": lambda images: mlp(images, 12, 202, norm=True, skip=True),
    "cnn": lambda images: cnn(images, 6),
    "cnn-ln": lambda images: cnn(images, 6, norm=True),
    "cnn-ln-skip": lambda images: cnn(images, 6, norm=True, over=1),
    "cnn-ln-residual": lambda images: cnn(images, 6, norm=True, over=2),
    "cnn-long": lambda images: cnn(images, 12),
    "cnn-long-ln": lambda images: cnn(images, 12, norm=True),
    "cnn-long-ln-skip": lambda images: cnn(images, 12, norm=True, over=1),
    "lenet": lenet,
}


def build(name: str, images: Images, initialisation: str = FAIR, seed: int = 0) -> LayeredNetwork:
    """One of `NETWORKS`, for these pictures.

    Args:
        initialisation: "fair": Kaiming's normal, with gain for ReLU, of all layers. "paper": convolutions so, but
            fully connected ones with a deviation of 1e-3, by which deep ones without layer norm hardly learn.

    Raises:
        InputError: no such network or initialisation.
    """
    if name not in NETWORKS:
        raise InputError(f"there is no network {name!r}; there are {', '.join(NETWORKS)}")
    if initialisation not in INITIALISATIONS:
        raise InputError(f"initialisation must be one of {', '.join(INITIALISATIONS)}, got {initialisation!r}")
    network = NETWORKS[name](images)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            deviation = math.sqrt(2 / module.weight[0].numel())
            if initialisation == PAPER and isinstance(module, nn.Linear):
                deviation = _PAPERS_DEVIATION
            nn.init.normal_(module.weight, std=deviation, generator=generator)
            nn.init.zeros_(module.bias)
    return network


def _over(distance: int, depth: int, skip: bool) -> list[int | None]:
    """Over one layer: of each position after the first the one before. Over two: of every third the last but one."""
    if not skip:
        return [None] * depth
    if distance == 1:
        return [None, *range(depth - 1)]
    return [position - 2 if position % 3 == 2 else None for position in range(depth)]
