"""The published pre-trainings: `bertkernels pretrain --recipe NAME`.

Sizes of models are the presets'. What a publication leaves open has a note, which is printed with the value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from bertkernels.training.pretrain_arguments import ELECTRA, MASKED_LM_NSP, PAIRS


@dataclass(frozen=True)
class PretrainingRecipe:
    """Values of flags, and where they are from.

    Attributes:
        what: one line for the list of recipes.
        source: publication and released code.
        batch: examples in a step, over all processes and accumulated batches.
        values: by flag.
        notes: by flag (and "batch"), what is to be said of its value, such as that it was not published.
        second: it goes on from the weights of a first phase.
    """

    name: str
    what: str
    source: str
    batch: int
    values: Mapping[str, object]
    notes: Mapping[str, str] = field(default_factory=dict)
    second: bool = False


_BERT_ADAM = {
    "optimizer": "bert_adam",
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-6,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "bert_schedule": True,
    "lr_decay_power": 1.0,
}
_VOCABULARY = 30_522
_MASKING_NOTE = "with replacement, as released; --masking without_replacement predicts each position once"


def _electra(
    name: str,
    what: str,
    source: str,
    *,
    preset: str,
    generator_size: float,
    learning_rate: float,
    batch: int,
    max_steps: int = 1_000_000,
    max_seq_length: int = 128,
    save_steps: int,
    save_total_limit: int = 5,
    notes: Mapping[str, str] | None = None,
) -> PretrainingRecipe:
    """ELECTRA's objective and optimizer, which ConvBERT and LV-BERT took over."""
    values = {
        "objective": ELECTRA,
        "preset": preset,
        "generator_size": generator_size,
        "masked_lm_weight": 1.0,
        "discriminator_weight": 50.0,
        "temperature": 1.0,
        "disallow_correct": False,
        "masking": "electra",
        "mask_probability": 0.15,
        "packing": "electra",
        "max_seq_length": max_seq_length,
        "vocab_size": _VOCABULARY,
        "max_steps": max_steps,
        "learning_rate": learning_rate,
        "warmup_steps": 10_000,
        **_BERT_ADAM,
        "save_steps": save_steps,
        "save_total_limit": save_total_limit,
    }
    notes = {"masking": _MASKING_NOTE, **(notes or {})}
    return PretrainingRecipe(name, what, source, batch, values, notes)


_CONVBERT_SOURCE = "Jiang et al. 2020 (arXiv 2008.02496) and its released code, on OpenWebText"
_CONVBERT_NOTES = {
    "packing": "the released script packs as --packing convbert; which one the published weights saw is not known",
}


def _convbert(size: str, learning_rate: float, batch: int, generator_size: float) -> PretrainingRecipe:
    name = f"convbert-{size}"
    notes = dict(_CONVBERT_NOTES)
    if size == "medium-small":
        notes["learning_rate"] = "the released code's default; not published for the reported results"
    return _electra(
        name,
        f"{name}, 128 tokens; {batch} examples a step, 1,000,000 steps",
        _CONVBERT_SOURCE,
        preset=name,
        generator_size=generator_size,
        learning_rate=learning_rate,
        batch=batch,
        save_steps=10_000,
        notes=notes,
    )


def _lvbert(size: str, learning_rate: float, batch: int, generator_size: float) -> PretrainingRecipe:
    name = f"lvbert-{size}"
    # the order of small is the one that was released
    notes = {} if size == "small" else {"preset": "its order of sub-layers is lvbert-small's, by inference"}
    return _electra(
        name,
        f"{name}, 128 tokens; {batch} examples a step, 1,000,000 steps",
        "Yu et al. 2021 (arXiv 2106.11740) and its released code, on OpenWebText",
        preset=name,
        generator_size=generator_size,
        learning_rate=learning_rate,
        batch=batch,
        save_steps=50_000,
        save_total_limit=1,
        notes=notes,
    )


_FIRST_STEPS, _SECOND_STEPS = 1_000_000, 100_000


def _second_phase(first: PretrainingRecipe, published: bool) -> PretrainingRecipe:
    """100,000 steps at 512 tokens, as LV-BERT's authors did; how, they do not say, and ConvBERT's not even that.

    `published` is whether these steps are. The rest is our choice.

    The rate goes on as if it had fallen over all 1,100,000 steps from the beginning: what the released program does
    where its number of steps is raised.
    """
    steps = _FIRST_STEPS + _SECOND_STEPS
    notes = {
        **first.notes,
        **({} if published else {"max_steps": "not published; LV-BERT's second phase"}),
        "learning_rate": f"not published; where a decay over {steps:,} steps stands after {_FIRST_STEPS:,}",
        "warmup_steps": "not published; for the optimizer's moments, which start anew",
        "batch": "not published; the first phase's",
    }
    changes = {
        "max_seq_length": 512,
        "max_steps": _SECOND_STEPS,
        "learning_rate": first.values["learning_rate"] * _SECOND_STEPS / steps,
        "warmup_steps": 1_000,
    }
    return replace(
        first,
        name=f"{first.name}-512",
        what=f"its second phase, 512 tokens; {first.batch} examples a step, 100,000 steps (rates not published)",
        values={**first.values, **changes},
        notes=notes,
        second=True,
    )


_BERT_SOURCE = "Devlin et al. 2019 (arXiv 1810.04805, A.2) and its released code, on BooksCorpus and Wikipedia"
_BERT_MASKING_NOTE = "drawn anew in every epoch; the original masks each of its copies of the text once"


def _bert(
    name: str, what: str, source: str, *, preset: str, notes: Mapping[str, str], **changes: object
) -> PretrainingRecipe:
    """BERT's objective and optimizer."""
    values = {
        "objective": MASKED_LM_NSP,
        "preset": preset,
        "masking": "bert",
        "mask_probability": 0.15,
        "packing": PAIRS,
        "dupe_factor": 10,
        "short_seq_prob": 0.1,
        "max_seq_length": 128,
        "vocab_size": _VOCABULARY,
        "max_steps": 900_000,
        "learning_rate": 1e-4,
        "warmup_steps": 10_000,
        **_BERT_ADAM,
        "lr_decay_steps": 1_000_000,
        "save_steps": 1_000,
        "save_total_limit": 5,
        **changes,
    }
    values = {flag: value for flag, value in values.items() if value is not None}
    second = values["max_seq_length"] > 128
    return PretrainingRecipe(name, what, source, 256, values, {"masking": _BERT_MASKING_NOTE, **notes}, second)


def _bert_phases(preset: str, source: str, notes: Mapping[str, str]) -> Iterator[PretrainingRecipe]:
    """Nine tenths of the steps with 128 tokens, one tenth with 512."""
    one_decay = "the rate falls over both phases, 1,000,000 steps"
    yield _bert(
        preset,
        f"{preset}, 128 tokens; 256 examples a step, 900,000 steps",
        source,
        preset=preset,
        notes={**notes, "lr_decay_steps": one_decay},
    )
    second = {
        "learning_rate": one_decay,
        "warmup_steps": "not published; for the optimizer's moments, which start anew",
    }
    yield _bert(
        f"{preset}-512",
        "its second phase, 512 tokens; 256 examples a step, 100,000 steps",
        source,
        preset=preset,
        notes={**notes, **second},
        max_seq_length=512,
        max_steps=100_000,
        learning_rate=1e-5,
        warmup_steps=1_000,
        lr_decay_steps=None,
    )


def _all() -> Iterator[PretrainingRecipe]:
    for size, rate, batch, fraction in (
        ("small", 3e-4, 128, 1 / 4),
        ("medium-small", 5e-4, 128, 1 / 4),
        ("base", 2e-4, 256, 1 / 3),
    ):
        first = _convbert(size, rate, batch, fraction)
        yield from (first, _second_phase(first, published=False))
    small = {"preset": "electra-small", "generator_size": 1 / 4, "learning_rate": 5e-4, "batch": 128}
    paper = "Clark et al. 2020 (arXiv 2003.10555, table 6) and its released code"
    for size, rate, batch, fraction in (
        ("small", 5e-4, 128, 1 / 4),
        ("medium", 5e-4, 128, 1 / 3),
        ("base", 2e-4, 256, 1 / 3),
    ):
        first = _lvbert(size, rate, batch, fraction)
        yield from (first, _second_phase(first, published=True))
    yield _electra(
        "electra-small",
        "electra-small, 128 tokens; 128 examples a step, 1,000,000 steps",
        f"{paper}, on Wikipedia and BooksCorpus",
        **small,
        save_steps=1_000,
    )
    yield _electra(
        "electra-small-owt",
        "the same as electra-small, on OpenWebText",
        "the released code of Clark et al. 2020 and its README, on OpenWebText",
        **small,
        save_steps=1_000,
    )
    yield _electra(
        "electra-base",
        "electra-base, 512 tokens; 256 examples a step, 766,000 steps",
        f"{paper}, on Wikipedia and BooksCorpus",
        preset="electra-base",
        generator_size=1 / 3,
        learning_rate=2e-4,
        batch=256,
        max_steps=766_000,
        max_seq_length=512,
        save_steps=1_000,
    )
    yield from _bert_phases("bert-base", _BERT_SOURCE, {})
    yield from _bert_phases(
        "bert-small",
        "Turc et al. 2019 (arXiv 1908.08962): BERT's own recipe, in a smaller model",
        dict.fromkeys(("batch", "learning_rate", "max_steps", "warmup_steps"), "not published; BERT-base's"),
    )
    yield _bert(
        "bert-small-6",
        "the 6-layer, 512-wide BERT of Zhao et al. 2021, 128 tokens; 256 examples a step, 1,000,000 steps",
        "Zhao et al. 2021 (arXiv 2101.04547) and its released code, on OpenWebText",
        preset="bert-small-6",
        notes={
            "preset": "its intermediate_size, 2048, was not published; with it the model has the 35 million parameters "
            "that were. --preset bert-small-6-relu-all and the like are the variants"
        },
        dupe_factor=5,
        max_steps=1_000_000,
        lr_decay_steps=None,
        save_steps=10_000,
        save_total_limit=10,
    )


RECIPES: dict[str, PretrainingRecipe] = {recipe.name: recipe for recipe in _all()}
