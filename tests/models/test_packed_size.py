"""What a training step of a packed encoder makes and keeps grows with its real tokens, not with its padding."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.ops.dispatch import can_run
from bertkernels.training.masking_collator import MaskingCollator

VOCABULARY, TOKENS = 331, 96  # a number of tokens that no other size has
LENGTHS = (96, 20, 31, 7, 44, 12)
PLANS = ["2*(mixed ffn[groups=2])", "2*(attention ffn)"]


def configuration(plan: str) -> EncoderConfig:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 64, "embedding_size": 32, "num_attention_heads": 4}
    return EncoderConfig(**sizes, intermediate_size=128, max_position_embeddings=TOKENS, plan=plan)


def batch(lengths=LENGTHS) -> dict[str, torch.Tensor]:
    collator = MaskingCollator(pad_id=0, cls_id=2, sep_id=3, mask_id=4, max_length=TOKENS, seed=0)
    generator = np.random.default_rng(0)
    return collator(
        [
            {"input_ids": generator.integers(5, VOCABULARY, size=n), "first_length": n, "epoch": 0, "index": i}
            for i, n in enumerate(lengths)
        ]
    )


class _Recorder(TorchDispatchMode):
    """The shapes of all floating tensors that operations make."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        made = (leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point())
        self.shapes.update(tuple(tensor.shape) for tensor in made)
        return out


def test_generator_predicts_at_masked_positions_and_discriminator_reads_real_tokens():
    torch.manual_seed(0)
    pair = ElectraForPreTraining(ElectraConfig(discriminator=configuration(PLANS[0])))
    inputs = batch()
    places = inputs["masked_lm_positions"]  # [B, P]
    rows, predictions = places.shape
    assert rows * predictions < sum(LENGTHS) / 2, "else this would show nothing"
    assert inputs["attention_mask"].gather(1, places).all(), "padding is predicted"

    seen = {}
    for name in ("generator.prediction.decoder", "discriminator.prediction.dense"):
        module = pair.get_submodule(name)
        module.register_forward_hook(lambda module, args, out, name=name: seen.update({name: args[0].shape[:-1]}))
    with _Recorder() as made:
        pair(**inputs).loss.backward()
    assert seen["generator.prediction.decoder"] == (rows, predictions)
    assert seen["discriminator.prediction.dense"] == (sum(LENGTHS),)

    table = pair.get_input_embeddings().weight.shape
    wide = {shape for shape in made.shapes if VOCABULARY in shape} - {tuple(table), tuple(table[::-1]), (VOCABULARY,)}
    assert wide and max(np.prod(shape) for shape in wide) <= rows * predictions * VOCABULARY, wide


def test_masked_language_models_without_places_predict_at_real_tokens():
    torch.manual_seed(0)
    model = EncoderForMaskedLM(configuration(PLANS[0])).eval()
    ids, mask = batch()["original_input_ids"], batch()["attention_mask"]
    seen = []
    model.prediction.decoder.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    labels = torch.where(mask == 1, ids, -100)
    found = model(ids, mask, labels=labels)
    assert seen.pop() == (sum(LENGTHS), VOCABULARY)
    assert found.logits.shape == (len(LENGTHS), TOKENS, VOCABULARY) and (found.logits[mask == 0] == 0).all()
    total = 0.0
    for row, length in enumerate(LENGTHS):
        alone = model(ids[row : row + 1, :length], labels=labels[row : row + 1, :length])
        torch.testing.assert_close(found.logits[row, :length], alone.logits[0], atol=1e-5, rtol=0)
        total += alone.loss.item() * length
    assert found.loss.item() == pytest.approx(total / sum(LENGTHS), rel=1e-5)
    anything = model(ids, mask, labels=torch.where(mask == 1, ids, 9))
    assert torch.equal(anything.loss, found.loss)


def saved_for_backward(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What a training step keeps for its backward pass, parameters aside; each memory once."""
    kept, known = {}, {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**inputs)
    return list(kept.values())


@pytest.mark.skipif(not can_run("mixed_attention", "cpu", "cpu")[0], reason=can_run("mixed_attention", "cpu", "cpu")[1])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("plan", PLANS)
def test_kept_memory_grows_with_real_tokens_alone(plan, dropout):
    torch.manual_seed(0)
    config = configuration(plan)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    pair = ElectraForPreTraining(ElectraConfig(discriminator=config)).train()
    sizes, tokens = [], []
    for shorter in (12, 24, 48):
        inputs = batch((TOKENS, *[shorter] * 15))
        real, padded = int(inputs["attention_mask"].sum()), inputs["attention_mask"].numel()
        kept = saved_for_backward(pair, inputs)
        sizes.append(sum(tensor.untyped_storage().nbytes() for tensor in kept))
        tokens.append(real)
        rows = {tensor.shape for tensor in kept if tensor.numel() >= padded * config.embedding_size}
        assert all(real in shape or VOCABULARY in shape for shape in rows), f"as many rows as the padded batch: {rows}"
    # bytes a token in the first step and in the second: what is left of padding, ids and masks, does not grow with them
    first, second = ((sizes[i + 1] - sizes[i]) / (tokens[i + 1] - tokens[i]) for i in range(2))
    assert second == pytest.approx(first, rel=0.01)
    fixed = sizes[0] - first * tokens[0]
    logits = inputs["masked_lm_positions"].numel() * VOCABULARY * 4
    assert fixed <= 6 * logits, f"{fixed:.0f} bytes that are kept whatever the number of real tokens"
