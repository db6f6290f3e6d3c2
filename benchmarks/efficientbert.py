"""EfficientBERT's and TinyBERT's encoders beside their own matrix products and beside BERT, on the CPU in float32.

python benchmarks/efficientbert.py [--presets NAME ...] [--batch 8] [--tokens 128] [--threads N] [--seconds 10]

Encoders have random weights and run from token ids to the last hidden state, all tokens real; products as
`bench/matrix_products.py` has them. An encoder takes turns with its products; printed are medians and their ratio. Then
it takes turns with bert-base, which tells how many times as long that takes: in the same turns with so large a model
either would find its weights pushed out of the caches.
"""

import argparse
from collections.abc import Callable

import torch

from bertkernels.bench.case import FORWARD, Case
from bertkernels.bench.matrix_products import encoder_operands, products
from bertkernels.bench.timing import interleaved
from bertkernels.models.cost import forward_flops
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.genotype import published_size
from bertkernels.models.presets import preset

BASE = "bert-base"
# 6 × 768 is also DistilBERT's size
PRESETS = (
    BASE,
    "tinybert-6",
    "efficientbert-tinybert6",
    "efficientbert-base",
    "efficientbert-plusplus",
    "efficientbert-plusplus-wide",
    "tinybert-4",
    "efficientbert-tiny",
)


def built(name: str) -> EncoderModel:
    """The preset without dropout and pooler, whose product the floor does not have either."""
    return EncoderModel(preset(name, pooler=False)).eval()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), metavar="NAME")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=10, help="measured, of each preset and pair")
    arguments = parser.parse_args(argv)

    torch.manual_seed(0)
    print(
        f"B{arguments.batch}·T{arguments.tokens}, float32, {arguments.threads} threads, torch {torch.__version__}; "
        "parameters as published, with fit_dense"
    )
    print(
        f"{'':<28} {'parameters':>12} {'GFLOPs':>7} {'forward':>11} {'products':>11} {'÷ them':>7} {BASE + ' ÷ it':>15}"
    )
    base = built(BASE)
    for name in arguments.presets:
        print(row(name, base, arguments), flush=True)


@torch.no_grad()
def row(name: str, base: EncoderModel, arguments: argparse.Namespace) -> str:
    """What one preset's line says."""
    model = built(name)
    case = Case("encoder", "base", arguments.batch, arguments.tokens, FORWARD)
    ids = torch.randint(5, model.config.vocab_size, (arguments.batch, arguments.tokens))

    def run() -> object:
        return model(input_ids=ids)

    def medians(other: Callable[[], object]) -> tuple[float, float]:
        timings = interleaved({"encoder": run, "other": other}, seconds=arguments.seconds, threads=arguments.threads)
        return timings["encoder"].p50, timings["other"].p50

    encoder, floor = medians(products(encoder_operands(model, case), both=False).call)
    beside_base, of_base = medians(lambda: base(input_ids=ids))
    flops = forward_flops(model.config, arguments.tokens) / 1e9
    return (
        f"{name:<28} {published_size(model.config):>12,} {flops:>7.2f} {encoder / 1000:>8.2f} ms "
        f"{floor / 1000:>8.2f} ms {encoder / floor:>7.2f} {of_base / beside_base:>15.2f}"
    )


if __name__ == "__main__":
    main()
