"""Inference through CUDA graphs; without a GPU everything around the graph itself."""

import pytest
import torch

import bertkernels
from bertkernels.graphs import GraphedForward, StaticInputs, shape_key
from bertkernels.graphs import forward as forward_module
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.nn import shapes_are_static
from tests.graphs.stand_in import EagerRecording
from tests.hf.conftest import make_config, make_model  # noqa: F401

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "initializer_range": 0.2,
}
needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
]


def encoder(**fields):
    torch.manual_seed(0)
    return EncoderModel(EncoderConfig(**SIZES, **{"plan": "(mixed ffn[groups=2]) (attention ffn)", **fields})).eval()


def batch(seed, rows=3, tokens=12, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
    ids = torch.randint(0, 50, (rows, tokens), generator=generator)
    return {"input_ids": ids.to(device), "attention_mask": (torch.arange(tokens) < lengths).long().to(device)}


# -- buffers -----------------------------------------------------------------------------------------------------------


def test_keys_are_names_shapes_and_dtypes():
    inputs = batch(0)
    assert shape_key(inputs) == shape_key(dict(reversed(batch(1).items())))
    others = (
        batch(0, tokens=11),
        batch(0, rows=2),
        {"input_ids": inputs["input_ids"]},
        inputs | {"attention_mask": inputs["attention_mask"].bool()},
    )
    assert len({shape_key(x) for x in (inputs, *others)}) == 5
    with pytest.raises(TypeError, match="inputs of a CUDA graph must be tensors, labels is a list"):
        shape_key({"labels": [1]})


def test_buffers_stay_where_they_are():
    buffers = StaticInputs(batch(0), torch.device("cpu"))
    addresses = {name: x.data_ptr() for name, x in buffers.tensors.items()}
    buffers.fill(batch(1))
    for name, x in batch(1).items():
        assert torch.equal(buffers.tensors[name], x)
        assert buffers.tensors[name].data_ptr() == addresses[name] != x.data_ptr()
    with pytest.raises(ValueError, match="these buffers hold"):
        buffers.fill(batch(1, tokens=11))


# -- without a GPU -----------------------------------------------------------------------------------------------------


def test_refused_on_the_cpu():
    with pytest.raises(ValueError, match="CUDA graphs need a model on a CUDA device, this EncoderModel is on cpu"):
        GraphedForward(encoder())


class _OnGpu(GraphedForward):
    """Takes a model on the CPU for one on a GPU."""

    def __init__(self, model, most_graphs=16):
        self.model, self.most_graphs, self.device = model, most_graphs, torch.device("cpu")
        self._graphs, self._pool = {}, None


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(forward_module, "Recording", EagerRecording)
    monkeypatch.setattr(EagerRecording, "made", 0)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    return EagerRecording


def test_one_graph_a_shape_and_results_of_their_own(stand_in):
    model = encoder()
    graphed = _OnGpu(model, most_graphs=2)
    first = graphed(**batch(0), token_type_ids=None)
    kept = first.last_hidden_state.clone()
    for seed in range(1, 4):
        found = graphed(**batch(seed))
        torch.testing.assert_close(found.last_hidden_state, model(**batch(seed)).last_hidden_state, atol=2e-6, rtol=0)
    assert stand_in.made == 1 and torch.equal(first.last_hidden_state, kept)
    graphed(**batch(0, tokens=11))
    assert stand_in.made == 2 and len(graphed.shapes) == 2
    beyond = batch(0, tokens=10)
    torch.testing.assert_close(graphed(**beyond).last_hidden_state, model(**beyond).last_hidden_state)
    assert stand_in.made == 2
    assert not shapes_are_static()


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [pytest.param(padding, marks=needs_gpu) for padding in ("exact", "reference")])
def test_replayed_with_other_lengths(padding):
    model = encoder(padding=padding).cuda()
    graphed = GraphedForward(model)
    for seed, (rows, tokens) in enumerate(((3, 12), (3, 12), (2, 24), (3, 12), (2, 24))):
        inputs = batch(seed, rows, tokens, "cuda")
        found, expected = graphed(**inputs), model(**inputs)
        torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=1e-4)
    assert len(graphed.shapes) == 2


@pytest.mark.parametrize("unpad", [pytest.param(unpad, marks=needs_gpu) for unpad in (False, True)])
def test_replayed_hugging_face_model(unpad, make_model):  # noqa: F811
    model = make_model("ConvBertForSequenceClassification", num_groups=2).cuda()
    bertkernels.patch(model, unpad=unpad)
    graphed = GraphedForward(model)
    for seed in range(4):
        inputs = batch(seed, device="cuda")
        torch.testing.assert_close(graphed(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("plan", [pytest.param(plan, marks=needs_gpu) for plan in ("mixed ffn", "attention ffn")])
def test_changed_weights_are_seen(plan):
    model = encoder(plan=plan).cuda()
    graphed = GraphedForward(model)
    inputs = batch(0, device="cuda")
    before = graphed(**inputs).last_hidden_state
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(1.5)
    after = graphed(**inputs).last_hidden_state
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model(**inputs).last_hidden_state, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="EncoderModel is in training mode: call eval"):
        GraphedForward(encoder().cuda().train())
