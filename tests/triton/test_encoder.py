"""A whole tiny encoder on the Triton kernels: in fp16 no further from fp64 than twice the reference.

Not in bf16: Triton's interpreter cuts numbers off where bf16 rounds, which alone makes errors twice as large.
"""

import copy

import pytest
import torch

from bertkernels import ops
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from tests.models.half import MODES, assert_within_twice, run


def encoder() -> EncoderModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "embedding_size": 16, "num_attention_heads": 2}
    rest = {"intermediate_size": 48, "max_position_embeddings": 24, "initializer_range": 0.2, "conv_kernel_size": 5}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return EncoderModel(EncoderConfig(plan="mixed ffn[groups=2]", **sizes, **rest, **no_dropout))


@pytest.mark.parametrize("mode", MODES)
def test_fp16(mode):
    model = encoder()
    model = model.half() if mode == "dtype" else model
    mask = (torch.arange(20) < torch.tensor([20, 9, 14])[:, None]).long()
    ids = torch.randint(1, 60, mask.shape, generator=torch.Generator().manual_seed(1))
    exact = run(copy.deepcopy(model).double(), ids, mask)
    half = torch.float16 if mode == "autocast" else None
    results = []
    for impl in ("triton", "reference"):
        with ops.use(impl):
            results.append(run(model, ids, mask, half))
    assert_within_twice(*results, exact, f"{mode} on triton")
