"""Surgery: what each edit does, to weights and outputs, and that nothing of it is left afterwards."""

import itertools

import pytest
import torch
from torch import nn

from bertkernels.analysis.layers import adapt
from bertkernels.analysis.surgery import Surgery
from bertkernels.errors import InputError
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.nn import FeedForward
from tests.analysis.encoders import POST_NORM, batch, build, each, logits

_TRANSFORMERS = tuple(family for family in POST_NORM if family != "lvbert")


def _reversed(layers):
    return list(range(len(layers.blocks)))[::-1]


def _edits(layers):
    """Everything that can be asked for, by name; blocks 0 and 1, or those of an order of sub-layers that have the
    site."""
    attention = next(b for b in range(len(layers.blocks)) if layers.heads(b) is not None)
    ffn = next(b for b in range(len(layers.blocks)) if "mlp" in layers.sites(b))
    mask = layers.head_mask()
    mask[attention, 1] = 0
    half = nn.Linear(16, 16)
    return {
        "order": lambda s: s.order(_reversed(layers)),
        "repeats": lambda s: s.order([1] * len(layers.blocks), repeats=True),
        "replace mlp": lambda s: s.replace(ffn, "mlp", half),
        "replace attention": lambda s: s.replace(attention, "self_attention_ff", half),
        "replace encoder": lambda s: s.replace(1, "encoder", half),
        **{
            f"{mode} {site}": lambda s, block=block, site=site, mode=mode: s.remove(block, site, mode)
            for block, site in (
                (ffn, "mlp"),
                (attention, "self_attention_ff"),
                (attention, "attention"),
                (1, "encoder"),
            )
            for mode in ("skip", "zero", "random", "keep-norm")
        },
        "zero context": lambda s: s.remove(attention, "self_attention", "zero"),
        "mask": lambda s: s.mask_heads(mask),
        "residual": lambda s: s.residual(attention, "attention", 0.5),
        "no residual": lambda s: s.residual(ffn, "ffn", 0),
        "trained residual": lambda s: s.residual(ffn, "all", half),
        "feed same": lambda s: s.feed_same(),
    }


@each()
def test_every_edit_changes_the_logits_and_is_undone_to_the_bit(family):
    model = build(family)
    before, weights = logits(model), {name: weight.clone() for name, weight in model.state_dict().items()}
    names = [name for name, _ in model.named_modules()]
    trains = [parameter.requires_grad for parameter in model.parameters()]
    for name, edit in _edits(adapt(model)).items():
        with edit(Surgery(model)):
            assert not torch.equal(logits(model), before), name
        assert torch.equal(logits(model), before), name
        assert [name for name, _ in model.named_modules()] == names, name
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == trains


@each(POST_NORM)
def test_edits_that_change_nothing_give_the_same_logits(family):
    model = build(family)
    before, layers = logits(model), adapt(model)
    with Surgery(model).order(range(len(layers.blocks))):
        assert torch.equal(logits(model), before)
    with Surgery(model).mask_heads(layers.head_mask()):
        torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)
    with Surgery(model).residual(0, "all", 1.0):
        torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)


@each()
def test_order_runs_blocks_in_this_order_under_their_own_numbers(family):
    model = build(family)
    layers = adapt(model)
    order = [2, 0, 1, *range(3, len(layers.blocks))]
    with Surgery(model).order(order) as surgery, torch.no_grad():
        assert adapt(model).order == order
        assert [id(block) for block in adapt(model).blocks] == [id(block) for block in layers.blocks]
        places = [(block, "encoder") for block in order]
        with surgery.layers.capture(places) as captured:
            model(**batch())
    for before, after in itertools.pairwise(order):
        assert torch.equal(captured[before, "encoder"][1], captured[after, "encoder"][0])


def test_an_order_equals_a_model_whose_weights_were_moved():
    model, other = build("bert"), build("bert")
    moved = {}
    for name, weight in model.state_dict().items():
        for place, number in enumerate([2, 0, 1]):
            if f".blocks.{number}." in name:
                moved[name.replace(f".blocks.{number}.", f".blocks.{place}.")] = weight
    other.load_state_dict(moved, strict=False)
    with Surgery(model).order([2, 0, 1]):
        assert torch.equal(logits(model), logits(other))


def test_repeats_share_weights_and_gradients():
    model = build("hf-bert")
    with Surgery(model).order([1, 1, 1], repeats=True):
        model(**batch(labels=True)).loss.backward()
        assert len({id(block) for block in model.bert.encoder.layer}) == 1
    blocks = adapt(model).blocks
    assert all(parameter.grad is not None for parameter in blocks[1].parameters())
    assert all(parameter.grad is None for parameter in (*blocks[0].parameters(), *blocks[2].parameters()))


@each()
def test_skip_leaves_out_a_sublayer_with_its_norm(family):
    model = build(family)
    layers = adapt(model)
    for block in range(len(layers.blocks)):
        for name in ("attention", "ffn", "encoder"):
            if name in layers.sites(block):
                with (
                    Surgery(model).remove(block, name, "skip"),
                    torch.no_grad(),
                    layers.capture([(block, name)]) as got,
                ):
                    model(**batch())
                assert torch.equal(*got[block, name])


def test_skipping_every_sublayer_leaves_the_embeddings():
    model = build("bert")
    surgery = Surgery(model)
    for block in range(3):
        surgery.remove(block, "mlp").remove(block, "self_attention_ff")
    with surgery, torch.no_grad():
        states = model(**batch(), output_hidden_states=True).hidden_states
    assert all(torch.equal(state, states[0]) for state in states)


@each(POST_NORM)
def test_keep_norm_normalises_the_input(family):
    model = build(family)
    layers = adapt(model)
    for block in range(len(layers.blocks)):
        for sublayer, name in zip(layers.sublayers(block)[:2], ("attention", "ffn"), strict=False):
            name = name if name in layers.sites(block) else "ffn"
            with Surgery(model).remove(block, name, "keep-norm"), torch.no_grad():
                with layers.capture([(block, name)]) as got:
                    model(**batch())
                x, y = (state[batch()["attention_mask"] == 1] for state in got[block, name])
                torch.testing.assert_close(y, sublayer.norm(x), atol=1e-6, rtol=1e-6)


@each(tuple(family for family in _TRANSFORMERS if family != "efficientbert"))
def test_zero_makes_weights_zeros_and_lets_the_residual_through(family):
    model = build(family)
    layers = adapt(model)
    real = batch()["attention_mask"] == 1
    for name, sublayer in (("self_attention_ff", 0), ("mlp", 1)):
        norm, weights = layers.sublayers(0)[sublayer].norm, layers.site(0, name).weights
        trained = norm.weight.clone()
        with Surgery(model).remove(0, name, "zero"), torch.no_grad(), layers.capture([(0, name)]) as got:
            model(**batch())
            parameters = [parameter for module in weights for parameter in module.parameters()]
            assert parameters and not any(parameter.any() or parameter.requires_grad for parameter in parameters)
            assert torch.equal(norm.weight, trained)
        assert not got[0, name][1].any()
    with Surgery(model).remove(0, "encoder", "zero"), torch.no_grad(), layers.capture([(0, "encoder")]) as got:
        model(**batch())
    x, y = (state[real] for state in got[0, "encoder"])
    for _ in range(2):  # two norms as they began
        x = nn.functional.layer_norm(x, (16,), eps=1e-12)
    torch.testing.assert_close(y, x, atol=1e-5, rtol=1e-5)


def test_random_draws_the_published_initialisation_by_seed():
    model = build("bert")
    up = adapt(model).sublayers(1)[1].inner[0]

    def drawn(seed):
        with Surgery(model).remove(1, "mlp", "random", seed=seed):
            assert not up.bias.any() and not up.weight.requires_grad
            return up.weight.clone()

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert drawn(3).abs().max() <= 0.04 and 0.01 < drawn(3).std() < 0.02


@pytest.mark.parametrize("zeros", ["attention_heads", "convolution"])
@each(("convbert", "hf-convbert", "hf-convbert-patched"))
def test_zero_of_one_kind_of_heads_leaves_the_other(family, zeros):
    model = build(family)
    layers = adapt(model)
    kept = {"attention_heads": "convolution", "convolution": "attention_heads"}[zeros]
    places = [(0, zeros), (0, kept)]
    with torch.no_grad(), layers.capture(places) as before:
        model(**batch())
    before = dict(before)
    with Surgery(model).remove(0, zeros, "zero"), torch.no_grad(), layers.capture(places) as after:
        model(**batch())
    assert before[0, zeros][1].any() and not after[0, zeros][1].any()
    torch.testing.assert_close(after[0, kept][1], before[0, kept][1], atol=1e-5, rtol=1e-5)


@each()
def test_replaced_sites_are_what_the_module_makes_and_it_trains(family):
    model = build(family)
    layers = adapt(model)
    for block in range(2):
        for name, site in layers.sites(block).items():
            module = nn.Linear(*site.widths)
            with Surgery(model).replace(block, name, module), layers.capture([(block, name)]) as got:
                names = [name for name, _ in model.named_parameters()]
                model(**batch(labels=True)).loss.backward()
            assert any(name.startswith("surgery.") for name in names)
            real = batch()["attention_mask"] == 1
            x, y = (state[real] for state in got[block, name])
            torch.testing.assert_close(y, module(x), atol=1e-5, rtol=1e-5)
            assert module.weight.grad.any(), name
            model.zero_grad()


@each(("bert", "hf-bert", "convbert", "hf-convbert-patched", "lvbert"))
def test_masked_heads_give_zeros_and_gradients_reach_the_mask(family):
    model = build(family)
    layers = adapt(model)
    mask = layers.head_mask()
    mask[0, 2] = 0
    mask.requires_grad_()
    with Surgery(model).mask_heads(mask), layers.capture([(0, "ff_after_self_attention")]) as got:
        before = logits(model)
        model(**batch(labels=True)).loss.backward()
    context = got[0, "ff_after_self_attention"][0].detach().unflatten(-1, (4, 4))[batch()["attention_mask"] == 1]
    masked = context.abs().amax((0, 2)) == 0
    assert masked.tolist() == [False, False, True, False]
    have = [layers.heads(block) is not None for block in range(len(layers.blocks))]
    assert mask.grad.abs().sum(1).ne(0).tolist() == have
    # the same as an output layer that takes nothing from this head
    output = layers.heads(0).output
    with torch.no_grad():
        output.weight[:, 8:12] = 0
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)


@each(_TRANSFORMERS)
def test_residual_weights_what_is_added(family):
    model = build(family)
    layers = adapt(model)
    places = [(1, "attention_before_ln"), (1, "self_attention_ff")]
    gate = nn.Linear(16, 16)
    for scale, weigh in ((0, lambda x: 0 * x), (0.5, lambda x: 0.5 * x), (gate, gate)):
        with Surgery(model).residual(1, "attention", scale), torch.no_grad(), layers.capture(places) as got:
            model(**batch())
        real = batch()["attention_mask"] == 1
        (x, y), (_, out) = (got[place] for place in places)
        torch.testing.assert_close(y[real], (out + weigh(x))[real], atol=1e-5, rtol=1e-5)


@each()
def test_feed_same_gives_every_block_the_embeddings(family):
    model = build(family)
    layers = adapt(model)
    places = [(block, "encoder") for block in range(len(layers.blocks))]
    with Surgery(model).feed_same(), torch.no_grad(), layers.capture(places) as got:
        model(**batch())
        model(**batch())
    assert all(torch.equal(got[place][0], got[places[0]][0]) for place in places)


def test_edits_compose_and_may_be_asked_for_inside():
    model = build("convbert")
    both = Surgery(model).order([2, 1, 0]).remove(1, "mlp", "skip")
    with both:
        expected = logits(model)
    with Surgery(model).order([2, 1, 0]) as surgery:
        surgery.remove(1, "mlp", "skip")
        assert torch.equal(logits(model), expected)
    with both:
        assert torch.equal(logits(model), expected)
        with pytest.raises(InputError, match="in force already"):
            both.__enter__()


@pytest.mark.parametrize("family", ["bert", "lvbert"])
def test_a_permanent_order_is_saved_with_the_plan(family, tmp_path):
    model = build(family)
    order = [1, 2, 0, *range(3, len(adapt(model).blocks))]
    layers = Surgery(model).order(order).remove(1, "encoder", "zero").permanent()
    assert layers.order == list(range(len(order)))
    after = logits(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(EncoderForSequenceClassification.from_pretrained(tmp_path).eval()), after)
    if family == "lvbert":
        assert model.config.plan == "(dynamic_conv[kernel=3] attention) (dynamic_conv[kernel=3] ffn) (ffn attention)"


def test_permanent_edits_stay():
    model = build("hf-bert")
    before = logits(model)
    with Surgery(model).remove(0, "mlp", "skip") as surgery:
        inside = logits(model)
        surgery.permanent()
    assert torch.equal(logits(model), inside) and not torch.equal(inside, before)


def test_removed_weights_do_not_train_and_others_do():
    model = build("bert").train()
    weights = {id(one) for module in adapt(model).site(0, "mlp").weights for one in module.parameters()}
    with Surgery(model).remove(0, "mlp", "zero"):
        model(**batch(labels=True)).loss.backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is None) == (id(parameter) in weights), name


@pytest.mark.parametrize("ask, message", [
    (lambda s: s.order([0, 0, 1]), r"\[0, 0, 1\] is no permutation of 0 to 2, \[2\] are missing; allow repeats"),
    (lambda s: s.order([0, 1]), "an order of 3 blocks needs 3 numbers, got 2"),
    (lambda s: s.order([0, 1, 3]), "block 3 is not there: the model has blocks 0 to 2"),
    (lambda s: s.remove(0, "convolution"), "block 0 has no site 'convolution'; it has self_attention, "),
    (lambda s: s.remove(0, "mlp", "cut"), "mode must be one of skip, zero, random, keep-norm, got 'cut'"),
    (lambda s: s.remove(0, "ffn_gelu"), "skip removes whole sub-layers and blocks, not ffn_gelu: block 0 "
                                        "has self_attention_ff, attention, mlp, ffn, encoder"),
    (lambda s: s.mask_heads(torch.ones(3, 5)), r"must be a tensor \[blocks, heads\] = \[3, 4\], got \[3, 5\]"),
    (lambda s: s.mask_heads([[1] * 4] * 3), "got list"),
    (lambda s: s.replace(0, "ffn_gelu", nn.Linear(16, 16)), "takes 16 channels and gives 24; the module makes"),
    (lambda s: s.replace(0, "mlp", nn.Linear(8, 16)), "takes 16 channels and gives 16; the module can't take them"),
    (lambda s: s.replace(0, "mlp", lambda x: x), "a site is replaced by a module, got function"),
    (lambda s: s.residual(0, "mlp", 0), "part must be one of attention, ffn, all, got 'mlp'"),
    (lambda s: s.residual(0, "ffn", "half"), "scale must be a number or a module, got str"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(ask, message):
    with pytest.raises(InputError, match=message):
        ask(Surgery(build("bert")))


def test_blocks_of_other_widths_do_not_swap():
    model = build("hf-bert")
    other = build("hf-bert", hidden_size=24)
    model.bert.encoder.layer[1] = other.bert.encoder.layer[1]
    with pytest.raises(InputError, match="block 1 can't take the place of block 0: it is 24 channels wide and not 16"):
        Surgery(model).order([1, 0, 2])


def test_parts_that_a_block_lacks_are_named():
    with pytest.raises(InputError, match="block 3 has no attention; it has ffn"):
        Surgery(build("lvbert")).residual(3, "attention", 0)


def test_sublayers_that_nobody_looks_into_run_as_they_did(monkeypatch):
    model = build("bert")
    fused = FeedForward.as_one_op
    ran: list[tuple[int, bool]] = []
    numbers = {id(block.sublayers[1].function): number for number, block in enumerate(model.model.encoder.blocks)}

    def recorded(self, *arguments):
        out = fused(self, *arguments)
        ran.append((numbers[id(self)], out is not None))
        return out

    monkeypatch.setattr(FeedForward, "as_one_op", recorded)
    logits(model)
    before, ran[:] = list(ran), []
    with Surgery(model).residual(1, "ffn", 0.5).remove(1, "attention", "skip"):
        logits(model)
    assert [one for one in ran if one[0] != 1] == [one for one in before if one[0] != 1]
    assert (1, True) not in ran


def test_supernets_are_cut_along_the_path_that_they_run():
    kinds = ["attention", "dynamic_conv[kernel=3]", "ffn"]
    model = build("bert", plan="(attention ffn) (dynamic_conv[kernel=3] ffn)", supernet_kinds=kinds)
    before = logits(model)
    layers = adapt(model)
    assert [layers.sublayers(block)[0].kind for block in range(2)] == ["attention", "dynamic_conv"]
    with Surgery(model).order([1, 0]).remove(0, "mlp", "zero"):
        assert not torch.equal(logits(model), before)
    assert torch.equal(logits(model), before)


@each(("bert", "hf-convbert-patched"))
def test_surgery_holds_in_training_with_checkpoints(family):
    """Recomputed blocks see the same edits, and the same gradients come of them."""

    def cut(model):
        return (
            Surgery(model).order([2, 0, 1]).residual(0, "attention", 0.5).replace(1, "mlp", nn.Identity()).feed_same()
        )

    gradients = []
    for checkpoints in (False, True):
        model = build(family, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpoints:
            model.gradient_checkpointing_enable()
        with cut(model):
            model(**batch(labels=True)).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
