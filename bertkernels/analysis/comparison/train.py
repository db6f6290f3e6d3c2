"""Training and testing of the networks for comparison."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from bertkernels.analysis.comparison.images import Images

_DECAYS = (0.4, 0.8)  # parts of training after which the rate is a tenth
_TESTED_AT_ONCE = 1000


def train(
    network: nn.Module,
    images: Images,
    epochs: int,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    seed: int = 0,
    decays: bool = True,
    penalty: Callable[[], torch.Tensor] | None = None,
) -> list[float]:
    """Adam on cross-entropy, and each epoch's mean loss.

    Args:
        decays: the rate is divided by ten after 40 % and after 80 % of the epochs, as in the released code, which has
            100 epochs for fully connected networks and 50 for convolutions. Otherwise it is constant.
        penalty: what is added to each batch's loss.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    milestones = [max(1, round(part * epochs)) for part in _DECAYS] if decays else []
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    means = []
    for _ in range(epochs):
        order = torch.randperm(len(images.train_x), generator=generator)
        total = 0.0
        for rows in order.split(batch_size):
            loss = functional.cross_entropy(network(images.train_x[rows]), images.train_y[rows])
            if penalty is not None:
                loss = loss + penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        schedule.step()
        means.append(total / len(order))
    return means


@torch.no_grad()
def accuracy(network: nn.Module, images: Images) -> float:
    """The part of the test pictures whose class has the highest logit."""
    network.eval()
    parts = zip(images.test_x.split(_TESTED_AT_ONCE), images.test_y.split(_TESTED_AT_ONCE), strict=True)
    return sum((network(x).argmax(-1) == y).sum().item() for x, y in parts) / len(images.test_x)
