"""The time of a whole LV-BERT beside that of its own matrix products, on the CPU in float32.

python benchmarks/lvbert.py [--size small|medium|base] [--batch 8] [--tokens 128] [--threads N] [--seconds 10]

The encoder runs from token ids to the last hidden state, all tokens real; products as `bench/matrix_products.py` has
them: those of every layer of the published model, and without the pointwise layers, which the encoder does not run one
by one. All take turns in one process. Printed are medians, and the encoder's over each of the others'.
"""

import argparse
from collections.abc import Callable

import torch

from bertkernels.bench.case import BOTH, FORWARD, Case, Peer
from bertkernels.bench.matrix_products import encoder_operands, products
from bertkernels.bench.timing import interleaved
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.presets import preset
from bertkernels.nn import DynamicConv

ENCODER, ALL_PRODUCTS, PRODUCTS_RUN = "encoder", "its matrix products", "those but the pointwise layers'"


def calls(model: EncoderModel, case: Case) -> dict[str, Callable[[], object]]:
    """What is timed."""
    ids = torch.randint(5, model.config.vocab_size, (case.batch, case.tokens))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    both = case.mode == BOTH

    def forward() -> torch.Tensor:
        with torch.set_grad_enabled(both):
            return model(input_ids=ids).last_hidden_state

    def backward(out: torch.Tensor) -> object:
        return torch.autograd.grad(out, parameters, torch.ones_like(out), allow_unused=True)

    convolutions = [module for module in model.modules() if isinstance(module, DynamicConv)]
    pointwise = {module.pointwise.weight.data_ptr() for module in convolutions}
    operands = list(encoder_operands(model, case))
    run = [(left, right) for left, right in operands if right.data_ptr() not in pointwise]
    encoder = Peer(forward, backward if both else None)
    peers = {ENCODER: encoder, ALL_PRODUCTS: products(operands, both), PRODUCTS_RUN: products(run, both)}
    return {name: peer.call for name, peer in peers.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=("small", "medium", "base"), default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=10, help="measured, of each mode")
    arguments = parser.parse_args(argv)

    torch.manual_seed(0)
    model = EncoderModel(preset(f"lvbert-{arguments.size}")).eval()  # no dropout
    print(
        f"lvbert-{arguments.size}, B{arguments.batch}·T{arguments.tokens}, float32, {arguments.threads} threads, "
        f"torch {torch.__version__}"
    )
    for mode in (FORWARD, BOTH):
        case = Case("encoder", arguments.size, arguments.batch, arguments.tokens, mode)
        timings = interleaved(calls(model, case), seconds=arguments.seconds, threads=arguments.threads)
        encoder = timings[ENCODER].p50
        for name, timing in timings.items():
            ratio = "" if name == ENCODER else f"   encoder ÷ this {encoder / timing.p50:.2f}"
            print(f"{mode:>17} {name:<33} {timing.p50 / 1000:9.2f} ms{ratio}")


if __name__ == "__main__":
    main()
