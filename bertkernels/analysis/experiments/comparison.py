"""Fully connected and convolutional networks on pictures, to compare a BERT's blocks with their layers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bertkernels.analysis import orders
from bertkernels.analysis.arguments import WorkArguments
from bertkernels.analysis.comparison.approximate import layer_linearities
from bertkernels.analysis.comparison.images import DIGITS, Images, load_images
from bertkernels.analysis.comparison.networks import FAIR, INITIALISATIONS, NETWORKS, LayeredNetwork, build
from bertkernels.analysis.comparison.reorder import ReorderedAccuracy, reordered_accuracies
from bertkernels.analysis.comparison.train import accuracy, train
from bertkernels.analysis.experiment import Experiment
from bertkernels.analysis.jobs import MEASURED, Job, Trial
from bertkernels.errors import InputError


@dataclass
class ComparisonArguments(WorkArguments):
    """Which networks on which pictures, and what is asked of them."""

    output_dir: str = field(default="comparison", metadata={"help": "Where results and report go."})
    images: str = field(
        default=DIGITS, metadata={"help": "digits: scikit-learn's; or a folder with the files of MNIST."}
    )
    networks: list[str] = field(
        default_factory=lambda: ["mlp", "mlp-ln", "mlp-ln-skip", "cnn", "cnn-ln", "cnn-ln-skip"],
        metadata={"help": f"Of {', '.join(NETWORKS)}."},
    )
    initialisation: list[str] = field(
        default_factory=lambda: [FAIR],
        metadata={"help": "fair: Kaiming's; paper: of fully connected layers a deviation of 1e-3."},
    )
    epochs: int = field(default=20, metadata={"help": "Of training (published: 100 of MLPs, 50 of CNNs, on MNIST)."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Adam's (published: 1e-4)."})
    batch_size: int = field(default=32, metadata={"help": "Pictures in a batch (published: 32)."})
    orders_each: int = field(
        default=10, metadata={"help": "Shuffles for each number of layers that stay in place; 0: none."}
    )
    epochs_after: int = field(
        default=0, metadata={"help": "Of training on after each swap (published: 5); shuffles are tested as they are."}
    )
    linearity: bool = field(default=True, metadata={"help": "Also fit closed-form probes of each layer."})
    network_seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "Each network with each of these."})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Begin anew; earlier results go."})
    disable_tqdm: bool = field(default=False, metadata={"help": "No progress bar."})


class Comparison(Experiment):
    """A job for each network, initialisation and seed: it is trained, then its layers are swapped and shuffled."""

    name = "comparison"

    def __init__(self, options: ComparisonArguments) -> None:
        self.options, self.folder = options, Path(options.output_dir)
        for flag, known in (("networks", tuple(NETWORKS)), ("initialisation", INITIALISATIONS)):
            unknown = [name for name in getattr(options, flag) if name not in known]
            if unknown:
                raise InputError(f"--{flag} must be of {', '.join(known)}, not {unknown[0]!r}")
        for flag, least in (("epochs", 1), ("batch_size", 1), ("orders_each", 0), ("epochs_after", 0), ("workers", 1)):
            if getattr(options, flag) < least:
                raise InputError(f"--{flag} must be at least {least}, not {getattr(options, flag)}")
        self._images = load_images(options.images)

    def settings(self) -> dict:
        options, images = self.options, self._images
        names = ("epochs", "learning_rate", "batch_size", "orders_each", "epochs_after", "linearity")
        return {
            "experiment": self.name,
            "pictures": [len(images.train_x), len(images.test_x), images.channels, images.side],
            "brightness": [float(images.train_x.double().mean()), float(images.test_x.double().mean())],
            **{name: getattr(options, name) for name in names},
        }

    def jobs(self, lines: Sequence[dict]) -> list[Job]:
        options = self.options
        return [
            Job(Trial(f"{name}, {how}", {"network": name, "initialisation": how}), MEASURED, seed)
            for name in options.networks
            for how in options.initialisation
            for seed in options.network_seeds
        ]

    def do(self, job: Job, lines: Sequence[dict]) -> dict:
        options, images, labels = self.options, self._images, job.trial.labels
        network = build(labels["network"], images, labels["initialisation"], job.seed)
        losses = train(network, images, options.epochs, options.learning_rate, options.batch_size, job.seed)
        found = {
            "metric": "accuracy",
            "before": accuracy(network, images),
            "loss": losses[-1],
            "layers": network.movable + 1,
        }
        if options.linearity:
            found["linearity"] = [_linearity(layer) for layer in layer_linearities(network, images)]
        try:
            found |= {"swaps": self._swaps(network, images, job.seed), "shuffles": self._shuffles(network, images)}
        except InputError as error:  # LeNet's layers have different shapes
            found["not_reordered"] = str(error)
        return found

    def _swaps(self, network: LayeredNetwork, images: Images, seed: int) -> list[dict]:
        options = self.options
        swaps = reordered_accuracies(
            network,
            images,
            orders.all_swaps(network.movable),
            options.epochs_after,
            options.learning_rate,
            options.batch_size,
            seed,
        )
        return [asdict(swap) | {"blocks": _moved(swap)} for swap in swaps]

    def _shuffles(self, network: LayeredNetwork, images: Images) -> list[dict]:
        movable, each = network.movable, self.options.orders_each
        chosen = [
            order
            for fixed in (range(movable - 1) if each else ())
            for order in orders.with_fixed(movable, fixed, each, seed=0)
        ]
        return [asdict(shuffle) for shuffle in reordered_accuracies(network, images, chosen)]


def _linearity(layer) -> dict:
    return {"position": layer.position, "relu": layer.relu.as_dict(), "output": layer.output.as_dict()}


def _moved(swap: ReorderedAccuracy) -> list[int]:
    return [position for position, layer in enumerate(swap.order) if layer != position]
