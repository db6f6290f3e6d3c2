"""ConvBERT encoders on batches of real lengths: Hugging Face's padded to the longest, ours on the real tokens alone."""

from collections.abc import Collection, Iterator

import torch

from bertkernels.hf import patch
from bertkernels.models.convert.huggingface_names import encoder_names

from .case import BOTH, Case, Peer
from .encoder import models, sharing_weights
from .matrix_products import PRODUCTS, Operands, encoder_operands, operands_by_part, operations, products
from .op_bench import HUGGING_FACE, HUGGING_FACE_COMPILED

UNPADDED = "patched, unpadded"
OURS = "bertkernels encoder, unpadded"

# Tokens ([CLS] and [SEP] included, at most 128) of the first 32 development rows of GLUE tasks under BERT's uncased
# vocabulary.
LENGTHS = {
    "SST-2": (
        *(12, 10, 24, 28, 13, 25, 8, 15, 26, 40, 23, 39, 25, 26, 29, 26),
        *(21, 44, 14, 21, 41, 17, 10, 20, 18, 35, 35, 28, 19, 13, 35, 38),
    ),
    "MRPC": (
        *(44, 52, 74, 47, 36, 48, 52, 67, 49, 51, 78, 47, 64, 70, 53, 55),
        *(59, 65, 74, 48, 37, 53, 42, 68, 49, 45, 51, 60, 53, 58, 45, 68),
    ),
    "RTE": (
        *(36, 49, 128, 128, 44, 58, 101, 51, 38, 51, 50, 42, 43, 79, 56, 48),
        *(34, 74, 54, 99, 53, 128, 128, 128, 128, 42, 54, 44, 49, 80, 41, 128),
    ),
}


def padded_case(text: str, size: str, mode: str, **options) -> Case:
    """The case of a task's batch, B sentences padded to T tokens."""
    lengths = LENGTHS[text]
    return Case("padded_batch", size, len(lengths), max(lengths), mode, text=text, **options)


class PaddedBatchBench:
    """Whole encoders, from token ids to the last hidden state of the real tokens.

    On padded batches the peers do not compute the same: Hugging Face's convolutions read padding, ours do not. So that
    they can be compared all the same, each peer's results are those of its first sentence that has no padding.
    The floor are the matrix products of the real tokens, each sentence attending to itself.
    "compiled" means each layer by `torch.compile` with dynamic shapes, as batches of other lengths would need it.
    """

    op = "padded_batch"
    profiled = UNPADDED

    def names(self, case: Case) -> list[str]:
        """Names of the case's peers: Hugging Face first."""
        names = (HUGGING_FACE, HUGGING_FACE_COMPILED, UNPADDED, OURS, PRODUCTS)
        return [name for name in names if case.compiled or name != HUGGING_FACE_COMPILED]

    def peers(self, case: Case, only: Collection[str] | None = None) -> dict[str, Peer]:
        """The case's peers, all with the same random weights (in the same memory) and token ids; `only` these names."""
        ours, theirs = models(case.size, case.device, case.dtype)
        generator = torch.Generator().manual_seed(0)
        shape = (case.batch, case.tokens)
        ids = torch.randint(5, ours.config.vocab_size, shape, generator=generator).to(case.device)
        lengths = torch.tensor(LENGTHS[case.text], device=case.device)
        mask = (torch.arange(case.tokens, device=case.device) < lengths[:, None]).long()  # [B, T]
        grad = torch.randn(*shape, ours.config.hidden_size, generator=generator).to(case.device, case.torch_dtype)
        grad = grad * mask[..., None]
        full = int(lengths.argmax())

        def build(name: str) -> Peer:
            if name == PRODUCTS:
                return products(encoder_operands(ours, case, LENGTHS[case.text]), case.mode == BOTH)
            model = ours if name == OURS else sharing_weights(theirs)
            if name == UNPADDED:
                patch(model, unpad=True)
            if name == HUGGING_FACE_COMPILED:
                for layer in model.encoder.layer:
                    layer.compile(dynamic=True)
            weights = list(encoder_names(ours.config))
            names = weights if name == OURS else [weight.name for weight in encoder_names(ours.config).values()]
            parameters = [model.get_parameter(parameter) for parameter in names]
            compiled = name == HUGGING_FACE_COMPILED
            return _peer(model, parameters, ids, mask, grad, full, case.mode == BOTH, compiled)

        return {name: build(name) for name in self.names(case) if only is None or name in only}

    def bytes_moved(self, case: Case) -> None:
        """No model: a whole encoder is bound by its products."""
        return None

    def operations(self, case: Case) -> int:
        """Those of the matrix products of real tokens."""
        ours, _ = models(case.size, case.device, case.dtype)
        return operations(encoder_operands(ours, case, LENGTHS[case.text], device="meta"), case.mode)

    def operands_by_part(self, case: Case) -> Iterator[tuple[str, Operands]]:
        """Those of its matrix products, each with its part of the encoder."""
        return operands_by_part(models(case.size, case.device, case.dtype)[0], case, LENGTHS[case.text])


def _peer(
    model: torch.nn.Module,
    parameters: list[torch.nn.Parameter],
    ids: torch.Tensor,
    mask: torch.Tensor,
    grad: torch.Tensor,
    full: int,
    both: bool,
    compiled: bool,
) -> Peer:
    def forward() -> torch.Tensor:
        return model(input_ids=ids, attention_mask=mask).last_hidden_state

    def backward(out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        torch.autograd.grad(out, parameters, grad)
        return (out[full],)

    @torch.no_grad()
    def inference() -> tuple[torch.Tensor, ...]:
        return (forward()[full],)

    return Peer(forward, backward, compiled=compiled) if both else Peer(inference, compiled=compiled)


BENCH = PaddedBatchBench()
