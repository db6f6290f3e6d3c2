"""Students' slices of supernets: the same outputs to the bit, narrower heads, deeper encoders."""

import pytest
import torch

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.genotype import RELEASED, SUPERNET, genotype_plan, parse_genotype
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.models.inheritance import choose_genotype, inherited_model, inherited_student, student_config

SIZES = {
    "vocab_size": 60,
    "hidden_size": 36,
    "embedding_size": 16,
    "trigram_embeddings": True,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
RELEASED_GENOTYPE = parse_genotype(RELEASED)


def config(**changes):
    return EncoderConfig(**{**SIZES, "plan": genotype_plan(parse_genotype(SUPERNET), blocks=6), **changes})


def supernet(model=EncoderModel, **changes):
    torch.manual_seed(0)
    return model(config(**changes)).eval()


def batch():
    ids = torch.randint(1, 60, (3, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 11, [1] * 6 + [0] * 5, [1] * 9 + [0] * 2])
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize(("widths", "intermediate_size"), [("crop", 36), ("pad", 144)])
def test_a_student_gives_the_chosen_supernets_outputs_to_the_bit(widths, intermediate_size):
    model = supernet(expression_widths=widths, intermediate_size=intermediate_size)
    before = model(**batch(), output_hidden_states=True)
    student = inherited_student(model, RELEASED_GENOTYPE)
    assert all(map(torch.equal, before.hidden_states, model(**batch(), output_hidden_states=True).hidden_states))
    choose_genotype(model, RELEASED_GENOTYPE)
    with torch.no_grad():
        pairs = [(each(**batch(), output_hidden_states=True)).hidden_states for each in (model, student)]
    assert all(map(torch.equal, *pairs))
    assert not torch.equal(pairs[0][-1], before.hidden_states[-1])
    choose_genotype(model, parse_genotype(6 * SUPERNET))
    assert torch.equal(model(**batch()).last_hidden_state, before.last_hidden_state), "and back"
    assert sum(p.numel() for p in student.parameters()) < sum(p.numel() for p in model.parameters())


def test_gradients_of_the_supernet_are_the_students_and_zero_elsewhere():
    model = supernet(EncoderForSequenceClassification, pooler=True)
    student = inherited_student(model, RELEASED_GENOTYPE)
    choose_genotype(model, RELEASED_GENOTYPE)
    for each in (model, student):
        each(**batch(), labels=torch.tensor([0, 1, 0])).loss.backward()
    wide, narrow = dict(model.named_parameters()), dict(student.named_parameters())
    for name, weight in narrow.items():
        part = tuple(slice(size) for size in weight.shape)
        assert torch.equal(wide[name].grad[part], weight.grad), name
        rest = wide[name].grad.clone()
        rest[part] = 0
        assert not rest.any(), name
    idle = {name for name in wide if name not in narrow}
    assert idle and all(wide[name].grad is None for name in idle)


def test_narrower_heads_are_cut_out_of_heads():
    model = supernet()
    narrow = config(hidden_size=24, intermediate_size=24)
    for boundaries, rows in ((True, [*range(6), *range(9, 15), *range(18, 24), *range(27, 33)]), (False, range(24))):
        new = inherited_model(model, narrow, head_boundaries=boundaries)
        old, cut = (each.encoder.blocks[2].sublayers[0].function for each in (model, new))
        rows = torch.tensor(list(rows))
        for role in ("query", "key", "value"):
            assert torch.equal(getattr(cut, role).weight, getattr(old, role).weight[rows, :24])
            assert torch.equal(getattr(cut, role).bias, getattr(old, role).bias[rows])
        assert torch.equal(cut.output.weight, old.output.weight[:24, rows])
    assert torch.equal(new.embeddings.word_embeddings.weight, model.embeddings.word_embeddings.weight)
    assert torch.equal(new.embeddings.trigram.weight, model.embeddings.trigram.weight[:24])
    assert torch.equal(new.embeddings.position_embeddings.weight, model.embeddings.position_embeddings.weight[:, :24])


def test_scores_of_heads_that_are_cut_are_sums_over_channels_of_the_same_head():
    """With weights that leave out the channels that are cut away, the narrower model scores as the wide one does."""
    model = supernet()
    function = model.encoder.blocks[0].sublayers[0].function
    with torch.no_grad():
        for head in range(4):
            function.query.weight[head * 9 + 6 : head * 9 + 9] = 0
            function.query.bias[head * 9 + 6 : head * 9 + 9] = 0
        function.query.weight[:, 24:] = function.key.weight[:, 24:] = 0
    new = inherited_model(model, config(hidden_size=24, intermediate_size=24))
    cut = new.encoder.blocks[0].sublayers[0].function
    x = torch.randn(1, 5, 36)
    wide, narrow = (
        (layer.query(part).view(5, 4, -1).transpose(0, 1) @ layer.key(part).view(5, 4, -1).permute(1, 2, 0))
        for layer, part in ((function, x), (cut, x[..., :24]))
    )
    torch.testing.assert_close(narrow, wide)


def test_twice_as_deep():
    model = supernet()
    deep = config(plan=genotype_plan(RELEASED_GENOTYPE, blocks=12), hidden_size=24, intermediate_size=24)
    new = inherited_model(model, deep)
    for number, block in enumerate(new.encoder.blocks):
        old = model.encoder.blocks[number // 2].sublayers[1]
        frame = block.sublayers[1][0]
        channels = frame.function.up.out_features
        assert torch.equal(frame.function.up.weight, old[0].function.up.weight[:channels, :24])
        assert torch.equal(frame.function.down.weight, old[0].function.down.weight[:24, :channels])
        assert torch.equal(frame.norm.weight, old[0].norm.weight[:24])
    assert new(**batch()).last_hidden_state.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": genotype_plan(RELEASED_GENOTYPE, blocks=6) + " attention"}, "7 blocks cannot be inherited from 6"),
        ({"hidden_size": 40}, "cannot be inherited: it is"),
        ({"num_attention_heads": 6}, "has 6 heads, which cannot be inherited from 4"),
        ({"plan": "6*(attention ffn)"}, "more weights cannot be inherited: there are none like it"),
    ],
)
def test_what_cannot_be_inherited(changes, message):
    with pytest.raises(InputError) as caught:
        inherited_model(supernet(), config(**changes))
    assert message in str(caught.value)


def test_genotypes_that_do_not_fit_a_supernet():
    with pytest.raises(InputError, match="a genotype of 5 expressions does not fit a plan with 6 expression_ffn"):
        choose_genotype(supernet(), RELEASED_GENOTYPE[:5])
    with pytest.raises(InputError, match="a genotype of 7 expressions"):
        student_config(config(), RELEASED_GENOTYPE + RELEASED_GENOTYPE[:1])
    shallow = supernet(plan="6*(attention expression_ffn[stack=2])")
    with pytest.raises(InputError, match=r"^tanh\(linear4_2\(.* stacks 4 layers, the supernet has 2 there"):
        choose_genotype(shallow, RELEASED_GENOTYPE)
