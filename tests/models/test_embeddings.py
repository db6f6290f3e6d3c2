"""Trigram embeddings: which words each token sees, padded and packed."""

import pytest
import torch

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.convert.to_huggingface import to_huggingface
from bertkernels.models.embeddings import TrigramEmbeddings, trigrams
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.nn import pack_mask, static_shapes

SIZES = {
    "vocab_size": 40,
    "hidden_size": 12,
    "embedding_size": 8,
    "trigram_embeddings": True,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "plan": "attention expression_ffn[stack=2]",
}
MASK = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1]]).bool()


def test_the_next_word_the_word_and_the_one_before():
    words = torch.arange(1.0, 4)[None, :, None]  # [1, T, 1]
    assert trigrams(words)[0].tolist() == [[2, 1, 0], [3, 2, 1], [0, 3, 2]]


def test_packed_sequences_do_not_see_each_other():
    words = torch.arange(1.0, 13).view(3, 4, 1)
    packing = pack_mask(MASK)
    wanted = [[2, 1, 0], [3, 2, 1], [0, 3, 2], [8, 6, 0], [0, 8, 6], [10, 9, 0], [11, 10, 9], [12, 11, 10], [0, 12, 11]]
    assert trigrams(packing.pack(words), packing).tolist() == wanted
    with static_shapes():
        alignment = pack_mask(MASK)
        aligned = trigrams(alignment.pack(words), alignment)
    assert alignment.unpack(aligned)[MASK].tolist() == wanted


@pytest.mark.parametrize("mask", [None, MASK, MASK[:1]], ids=["whole", "packed", "one"])
def test_words_gathered_in_place_are_those_put_together(mask):
    torch.manual_seed(0)
    embeddings = TrigramEmbeddings(EncoderConfig(**SIZES)).eval()
    ids = torch.randint(1, 40, (3, 4) if mask is None else mask.shape)
    packing = None if mask is None else pack_mask(mask)
    wanted = embeddings(ids, packing=packing)
    with torch.no_grad():
        torch.testing.assert_close(embeddings(ids, packing=packing), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("static", [False, True])
def test_every_sequence_comes_out_as_if_it_were_alone(static):
    torch.manual_seed(0)
    model = EncoderModel(EncoderConfig(**SIZES)).eval()
    ids = torch.randint(1, 40, (3, 4)).where(MASK, 0)
    if static:
        with static_shapes():
            out = model(ids, MASK.long()).last_hidden_state
    else:
        out = model(ids, MASK.long()).last_hidden_state
    for row, mask, found in zip(ids, MASK, out, strict=True):
        torch.testing.assert_close(found[mask], model(row[mask][None]).last_hidden_state[0])


def test_padding_is_seen_as_in_the_released_program():
    torch.manual_seed(0)
    model = EncoderModel(EncoderConfig(**SIZES, padding="reference")).eval()
    outputs = [model(torch.tensor([[3, 5, 8, pad]]), torch.tensor([[1, 1, 1, 0]])) for pad in (0, 7)]
    first, second = (output.last_hidden_state[0, :3] for output in outputs)
    assert not torch.allclose(first, second)


def test_heads_checkpoints_and_gradients(tmp_path):
    torch.manual_seed(0)
    model = EncoderForMaskedLM(EncoderConfig(**SIZES))
    assert isinstance(model.model.embeddings, TrigramEmbeddings) and model.model.embeddings_projection is None
    ids = torch.randint(1, 40, (2, 4))
    model(ids, labels=ids).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    model.eval().save_pretrained(tmp_path)
    again, report = EncoderForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(again(ids).logits, model(ids).logits)
    embedded = model.model.embeddings.word_embeddings(ids)
    assert torch.equal(model(inputs_embeds=embedded).logits, model(ids).logits)


def test_no_hugging_face_model_has_them(tmp_path):
    model = EncoderForMaskedLM(EncoderConfig(**SIZES | {"plan": "2*(attention ffn)"}))
    with pytest.raises(ValueError, match="trigram embeddings"):
        to_huggingface(model, tmp_path / "theirs")
