"""ConvBERT encoders: Hugging Face's, the same patched, ours, and their matrix products alone, on the same weights."""

import copy
import functools
from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from transformers import BertConfig, BertModel, ConvBertModel, PreTrainedModel

from bertkernels.hf import patch
from bertkernels.models.convert.huggingface_names import encoder_names
from bertkernels.models.convert.to_huggingface import their_model
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.presets import preset

from .case import BOTH, Case, Peer
from .matrix_products import PRODUCTS, Operands, encoder_operands, operands_by_part, operations, products
from .op_bench import HUGGING_FACE, HUGGING_FACE_COMPILED

PATCHED = "patched"
PATCHED_COMPILED = "patched, compiled"
PATCHED_FLOAT32 = "patched, float32"
OURS = "bertkernels encoder"
BERT = "Hugging Face BERT, SDPA"


class EncoderBench:
    """Whole encoders, from token ids to the last hidden state; dropout off, so that results can be compared.

    "compiled" means each layer by `torch.compile`: all layers share one compilation, which takes seconds where the
    whole model as one graph takes minutes. In half precision the CPU's cases hold the patched model in fp32 as well.
    Where base is trained on a GPU, BERT of the same widths stands beside it: another model, to compare with.
    """

    op = "encoder"
    profiled = PATCHED

    def names(self, case: Case) -> list[str]:
        """Names of the case's peers: Hugging Face first."""
        compiled = {HUGGING_FACE_COMPILED, PATCHED_COMPILED}
        names = [HUGGING_FACE, HUGGING_FACE_COMPILED, PATCHED, PATCHED_COMPILED, OURS]
        if case.device == "cpu" and case.dtype != "float32":
            names.append(PATCHED_FLOAT32)
        if case.device == "cuda" and case.size == "base" and case.mode == BOTH:
            names.append(BERT)
        return [name for name in (*names, PRODUCTS) if case.compiled or name not in compiled]

    def peers(self, case: Case, only: Collection[str] | None = None) -> dict[str, Peer]:
        """The case's peers, all with the same random weights (in the same memory) and token ids; `only` these names."""
        ours, theirs = models(case.size, case.device, case.dtype)
        their_names = {weight.name: name for name, weight in encoder_names(ours.config).items()}
        generator = torch.Generator().manual_seed(0)
        shape = (case.batch, case.tokens)
        ids = torch.randint(5, ours.config.vocab_size, shape, generator=generator).to(case.device)
        grad = torch.randn(*shape, ours.config.hidden_size, generator=generator).to(case.device, case.torch_dtype)

        def build(name: str) -> Peer:
            if name == PRODUCTS:
                return products(encoder_operands(ours, case), case.mode == BOTH)
            if name == BERT:
                return _bert(ids, grad)
            if name == PATCHED_FLOAT32:
                return self.peers(replace(case, dtype="float32"), only=[PATCHED])[PATCHED]
            compiled = name in (HUGGING_FACE_COMPILED, PATCHED_COMPILED)
            if name == OURS:
                model, names = ours, their_names.values()
            else:
                model, names = sharing_weights(theirs), their_names
            if name in (PATCHED, PATCHED_COMPILED):
                patch(model)
            if compiled:
                for layer in model.encoder.layer:
                    layer.compile(dynamic=False)
            parameters = [model.get_parameter(parameter) for parameter in names]
            return _peer(model, parameters, ids, grad, case, compiled)

        return {name: build(name) for name in self.names(case) if only is None or name in only}

    def bytes_moved(self, case: Case) -> None:
        """No model: a whole encoder is bound by its products, which are measured beside it."""
        return None

    def operations(self, case: Case) -> int:
        """Those of its matrix products."""
        ours, _ = models(case.size, case.device, case.dtype)
        return operations(encoder_operands(ours, case, device="meta"), case.mode)

    def operands_by_part(self, case: Case) -> Iterator[tuple[str, Operands]]:
        """Those of its matrix products, each with its part of the encoder."""
        return operands_by_part(models(case.size, case.device, case.dtype)[0], case)


@functools.lru_cache(maxsize=2)
def models(size: str, device: str, dtype: str) -> tuple[EncoderModel, ConvBertModel]:
    """Our encoder and Hugging Face's around the same random weights; those of the last size are kept, in two dtypes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = EncoderModel(preset(f"convbert-{size}")).eval().to(device, getattr(torch, dtype))
    converted = their_model(ours)
    theirs = ConvBertModel(converted.config).eval().to(device)
    theirs.load_state_dict(converted.state_dict(), assign=True)
    return ours, theirs


def sharing_weights(model: ConvBertModel) -> ConvBertModel:
    """A copy to patch or compile, with the very same parameters."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def _peer(
    model: PreTrainedModel,
    parameters: list[torch.nn.Parameter],
    ids: torch.Tensor,
    grad: torch.Tensor,
    case: Case,
    compiled: bool,
) -> Peer:
    def forward() -> torch.Tensor:
        return model(input_ids=ids).last_hidden_state

    def backward(out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return out, *torch.autograd.grad(out, parameters, grad)

    @torch.no_grad()
    def inference() -> tuple[torch.Tensor, ...]:
        return (forward(),)

    return Peer(forward, backward, compiled=compiled) if case.mode == BOTH else Peer(inference, compiled=compiled)


def _bert(ids: torch.Tensor, grad: torch.Tensor) -> Peer:
    """A training step of BERT-base with torch's attention, dropout off."""
    config = BertConfig(attn_implementation="sdpa", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertModel(config, add_pooling_layer=False).to(grad.device, grad.dtype)
    parameters = list(model.parameters())

    def forward() -> torch.Tensor:
        return model(input_ids=ids).last_hidden_state

    def backward(out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return out, *torch.autograd.grad(out, parameters, grad)

    return Peer(forward, backward, easier=True)


BENCH = EncoderBench()
