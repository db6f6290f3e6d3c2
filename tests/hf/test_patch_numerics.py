"""A patched model computes what the unpatched one computes."""

import copy

import pytest
import torch

import bertkernels

SHAPES = {
    "plain": {},
    "groups and narrow embeddings": {"num_groups": 2, "embedding_size": 16},
    "one head left of the ratio": {"num_attention_heads": 1},
    "ratio 4": {"head_ratio": 4},
    "ratio 1": {"head_ratio": 1},
    "kernel 3": {"conv_kernel_size": 3},
    "kernel longer than the sentences": {"conv_kernel_size": 31},
}


def results(output) -> list[torch.Tensor]:
    """All tensors of a model output, tuples flattened, in order."""
    flat = []
    for value in output.values():
        flat += value if isinstance(value, tuple) else [value]
    return flat


def assert_same_outputs(stock, patched, inputs, **options):
    with torch.no_grad():
        expected, got = stock(**inputs, **options), patched(**inputs, **options)
    assert list(expected) == list(got)
    for one, other in zip(results(expected), results(got), strict=True):
        torch.testing.assert_close(other, one, atol=2e-5, rtol=0)


def assert_same_gradients(stock, patched, inputs):
    for model in (stock, patched):
        model.zero_grad()
        output = model(**inputs)
        (output.last_hidden_state.pow(2).sum() if "last_hidden_state" in output else output.loss).backward()
    expected = {name: parameter.grad for name, parameter in stock.named_parameters()}
    largest = max(grad.norm() for grad in expected.values() if grad is not None)
    for name, parameter in patched.named_parameters():
        reference = expected[name]
        if reference is None:
            assert parameter.grad is None, name
            continue
        # some are rounding noise around zero: softmaxes cannot see the keys' bias, nor one common to all positions
        error = (parameter.grad - reference).norm() / max(reference.norm(), 1e-3 * largest)
        assert error < 1e-4, f"{name}: relative error {error:.1e}"


@pytest.fixture
def pair(make_model):
    """An unpatched model and a patched copy."""

    def make(*arguments, **changes):
        stock = make_model(*arguments, **changes)
        patched = copy.deepcopy(stock)
        bertkernels.patch(patched)
        return stock, patched

    return make


@pytest.mark.parametrize("shape", SHAPES)
def test_all_heads_give_the_same_outputs_and_gradients(head, shape, pair, make_batch):
    stock, patched = pair(head, **SHAPES[shape])
    inputs = make_batch(head)
    assert_same_outputs(stock, patched, inputs)
    assert_same_gradients(stock, patched, inputs)


def test_recorded_outputs_are_the_same(head, pair, make_batch):
    stock, patched = pair(head)
    assert_same_outputs(stock, patched, make_batch(head), output_attentions=True, output_hidden_states=True)


def test_attention_maps_asked_for_in_the_configuration(pair, make_batch):
    stock, patched = pair()
    for model in (stock, patched):
        model.config.output_attentions = True
    assert_same_outputs(stock, patched, make_batch())
    assert len(patched(**make_batch()).attentions) == 2
    assert patched(**make_batch(), output_attentions=False).attentions is None


@pytest.mark.parametrize("arguments", [((), {}), ((1, 2, 3, 4, 5, 6), {}), ((1,), {"input_ids": 1})])
def test_wrong_arguments_raise_what_the_model_raises(arguments, pair):
    args, kwargs = arguments
    args = tuple(torch.ones(1, 4, dtype=torch.long) for _ in args)
    kwargs = {name: torch.ones(1, 4, dtype=torch.long) for name in kwargs}
    errors = []
    for model in pair():
        with pytest.raises((TypeError, ValueError)) as error:
            model(*args, **kwargs)
        errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("return_dict", [True, False])
def test_inputs_by_position_and_tuples(return_dict, pair, make_batch):
    stock, patched = pair()
    inputs = make_batch()
    with torch.no_grad():
        expected = stock(inputs["input_ids"], inputs["attention_mask"], return_dict=return_dict)
        got = patched(inputs["input_ids"], inputs["attention_mask"], return_dict=return_dict)
    assert type(got) is type(expected)
    torch.testing.assert_close(got[0], expected[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("form", ["none", "all ones", "float", "bool", "left padding", "holes", "an empty row", "4-D"])
def test_masks(form, pair, make_batch):
    stock, patched = pair()
    inputs = make_batch()
    mask = inputs.pop("attention_mask")
    if form == "all ones":
        mask = torch.ones_like(mask)
    elif form in ("float", "bool"):
        mask = mask.to(getattr(torch, form))
    elif form == "left padding":
        mask = mask.flip(1)
    elif form == "holes":
        mask = mask * (torch.arange(mask.shape[1]) % 3 != 1)
    elif form == "an empty row":
        mask = mask * torch.tensor([1, 1, 0, 1])[:, None]
    elif form == "4-D":  # each token attends to the tokens before it
        mask = torch.full((mask.shape[1], mask.shape[1]), -1e4).triu(1).expand(len(mask), 1, -1, -1)
    assert_same_outputs(stock, patched, inputs if form == "none" else inputs | {"attention_mask": mask})


def test_embeddings_as_inputs(pair, make_batch):
    stock, patched = pair()
    inputs = make_batch()
    embedded = {"inputs_embeds": torch.randn(4, 13, 32), "attention_mask": inputs["attention_mask"]}
    assert_same_outputs(stock, patched, embedded)
    assert_same_outputs(stock, patched, {"inputs_embeds": embedded["inputs_embeds"]})


def test_one_token(pair):
    stock, patched = pair()
    assert_same_outputs(stock, patched, {"input_ids": torch.tensor([[7]]), "attention_mask": torch.tensor([[1]])})


def test_parts_alone(pair):
    stock, patched = pair(num_groups=2)
    x = torch.randn(2, 7, 32)
    for name in ("encoder.layer.0", "encoder.layer.0.attention.self", "encoder.layer.0.intermediate"):
        expected, got = stock.get_submodule(name)(x), patched.get_submodule(name)(x)
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)  # self-attention's probabilities too
    channels_first = torch.randn(2, 32, 7)
    name = "encoder.layer.0.attention.self.key_conv_attn_layer"
    expected, got = stock.get_submodule(name)(channels_first), patched.get_submodule(name)(channels_first)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("options", [{}, {"output_attentions": True, "output_hidden_states": True}])
def test_gradient_checkpointing(use_reentrant, options, pair, make_batch):
    stock, patched = pair("ConvBertForMaskedLM", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    patched.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    inputs = make_batch("ConvBertForMaskedLM")
    assert_same_outputs(stock.train(), patched.train(), inputs, **options)
    assert_same_gradients(stock, patched, inputs | options)


def test_attention_dropout_is_applied_in_training_only(pair, make_batch):
    _, patched = pair(attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0)
    inputs = make_batch()

    def run():
        return patched(**inputs).last_hidden_state

    torch.testing.assert_close(run(), run(), atol=0, rtol=0)
    patched.train()
    assert (run() - run()).abs().max() > 1e-3
    maps = patched(**inputs | {"attention_mask": None}, output_attentions=True).attentions[0]
    assert 0.3 < (maps == 0).float().mean() < 0.7


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype, pair, make_batch):
    stock, patched = pair()
    exact = copy.deepcopy(stock).double()
    stock, patched = stock.to(dtype), patched.to(dtype)
    inputs = make_batch()
    inputs["attention_mask"][2] = 0  # nothing to attend to: finite all the same
    with torch.no_grad():
        reference = exact(**inputs).last_hidden_state
        got, eager = patched(**inputs).last_hidden_state, stock(**inputs).last_hidden_state
    assert got.dtype == dtype and got.isfinite().all()
    rows = [0, 1, 3]
    budget = 2 * (eager - reference)[rows].abs().max() + 1e-12
    assert (got - reference)[rows].abs().max() <= budget


def test_autocast(pair, make_batch):
    stock, patched = pair()
    inputs = make_batch()
    inputs["attention_mask"][2] = 0
    with torch.no_grad():
        reference = stock(**inputs).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            got, eager = patched(**inputs).last_hidden_state, stock(**inputs).last_hidden_state
    assert got.dtype == eager.dtype and got.isfinite().all()
    assert (got - reference).abs().max() <= 2 * (eager - reference).abs().max()
