"""EfficientBERT's and TinyBERT's encoders beside their own matrix products and beside BERT, on the CPU in float32.

python benchmarks/efficientbert.py [--presets NAME ...] [--batch 8] [--tokens 128] [--threads N] [--seconds 10]

Encoders have random weights and run from token ids to the last hidden state, all tokens real; products as
`bench/matrix_products.py` has them. An encoder takes turns with its products; printed are medians, their ratio, and how
many times as long as this encoder bert-base takes, measured in the same turns.
"""

import argparse

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
    parser.add_argument("--seconds", type=float, default=10, help="measured, of each preset")
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
    calls = {
        "encoder": lambda: model(input_ids=ids),
        "products": products(encoder_operands(model, case), both=False).call,
        "base": lambda: base(input_ids=ids),
    }
    timings = interleaved(calls, seconds=arguments.seconds, threads=arguments.threads)
    encoder, floor, beside = (timings[each].p50 for each in calls)
    flops = forward_flops(model.config, arguments.tokens) / 1e9
    return (
        f"{name:<28} {published_size(model.config):>12,} {flops:>7.2f} {encoder / 1000:>8.2f} ms "
        f"{floor / 1000:>8.2f} ms {encoder / floor:>7.2f} {beside / encoder:>15.2f}"
    )


if __name__ == "__main__":
    main()
