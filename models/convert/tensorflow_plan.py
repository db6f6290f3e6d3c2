"""Decides from the names and shapes of a TensorFlow checkpoint's variables which model of ours they become."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedConfig, PreTrainedModel

from bertkernels.errors import InputError

from ..configuration import EncoderConfig
from ..electra import ElectraConfig, ElectraForPreTraining
from ..encoder import EncoderModel
from ..heads import EncoderForMaskedLM, EncoderForReplacedTokenDetection, EncoderForSequenceClassification
from ..token_classification import EncoderForTokenClassification
from . import tensorflow_names as names
from .load import build_empty, check_weights, shorten, weight_shapes
from .tensorflow_architecture import Shapes, infer_architecture
from .tensorflow_config import Known, KnownSizes
from .tensorflow_layers import Place, find_layers
from .tensorflow_sizes import encoder_config

PARTS = ("encoder", "discriminator", "generator", "masked_lm", "pretraining", "classifier")
_BOOKKEEPING = re.compile(
    r"(?P<optimizer>.*/(adam_m|adam_v|Adam|Adam_1|AdamWeightDecayOptimizer(_1)?)|beta[12]_power)|(?P<step>global_step)"
)
# class labels in the order that the released fine-tuning programs number them
_TASK_LABELS = {
    "mnli": ("contradiction", "entailment", "neutral"),
    "qnli": ("entailment", "not_entailment"),
    "rte": ("entailment", "not_entailment"),
}
_REGRESSION_TASKS = ("sts",)
_TAGGING_TASKS = ("chunk",)
_BERT_CLASSIFIER = {"output_weights", "output_bias"}


@dataclass
class VariablePlan:
    """How variables become a model: decided from names and shapes, before any data are read.

    Attributes:
        model_class, config: what is built.
        variables: for each weight of ours, the variable that it comes from.
        left_out: variables that do not become weights, by the reason.
        notes: sentences for the user.
    """

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    variables: names.Names
    left_out: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def plan_variables(
    shapes: Shapes,
    known: KnownSizes | None = None,
    *,
    part: str | None = None,
    task: str | None = None,
    num_attention_heads: int | None = None,
    generator_num_attention_heads: int | None = None,
    head_ratio: float | None = None,
    hidden_act: str | None = None,
    padding: str | None = None,
    source: str = "the checkpoint",
) -> VariablePlan:
    """Decides what a checkpoint's variables become.

    Args:
        shapes: shape of every variable.
        known: what a configuration tells.
        part: which model to make. None: "classifier" if a task is named, else "discriminator" if its head is there,
            else "encoder". "generator" is the one of a pair, as a masked language model; "masked_lm" the full encoder
            with that head; "pretraining" the pair.
        task: the fine-tuned task whose head makes the "classifier"; None: the only one.
        num_attention_heads, generator_num_attention_heads, head_ratio, hidden_act: what shapes cannot tell, before
            anything that `known` says. Without either, hidden_act and dropouts are the released programs'.
        padding: as EncoderConfig; None: "reference", with which padding takes part in convolutions as it did in
            training, and "exact" for BERT, which has none.
        source: what errors call the checkpoint.

    Raises:
        InputError: see `convert_tensorflow`.
    """
    for name, heads in (
        ("num_attention_heads", num_attention_heads),
        ("generator_num_attention_heads", generator_num_attention_heads),
    ):
        if heads is not None and heads < 1:
            raise InputError(f"{name} must be a whole number from 1, got {heads}")
    known = known or KnownSizes()
    flags = {
        "num_attention_heads": num_attention_heads,
        "head_ratio": head_ratio,
        "hidden_act": hidden_act,
    }
    generator_flags = {"head_ratio": head_ratio, "hidden_act": hidden_act}
    generator_flags["num_attention_heads"] = generator_num_attention_heads or (
        num_attention_heads if part == "generator" else None
    )
    return _Planner(
        shapes=shapes,
        known=KnownSizes(_with_flags(known.encoder, flags), _with_flags(known.generator, generator_flags)),
        padding=padding,
        source=source,
    ).plan(part, task)


def _with_flags(known: dict[str, Known], flags: Mapping[str, object]) -> dict[str, Known]:
    return known | {name: Known(value, f"--{name}") for name, value in flags.items() if value is not None}


class _Planner:
    def __init__(self, shapes: Shapes, known: KnownSizes, padding: str | None, source: str):
        self.shapes, self.known, self.source = shapes, known, source
        self.bookkeeping = {name: match for name in shapes if (match := _BOOKKEEPING.fullmatch(name))}
        self.present = [name for name in shapes if name not in self.bookkeeping]
        self.scope = self._find_scope()
        self.padding = padding or ("exact" if self.scope == "bert" else "reference")
        self.notes: list[str] = []

    def plan(self, part: str | None, task: str | None) -> VariablePlan:
        part = part or self._default_part(task)
        if part not in PARTS:
            raise InputError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
        if task is not None and part != "classifier":
            raise InputError(f"task {task!r} belongs to part classifier, not to {part}")
        make = getattr(self, f"_plan_{part}")
        plan: VariablePlan = make(task) if part == "classifier" else make()
        used = {variable.name for variable in plan.variables.values()}
        self._check_unknown()
        self._check_weights(plan)
        plan.left_out = self._left_out(used)
        plan.notes = self.notes
        return plan

    def _plan_encoder(self) -> VariablePlan:
        variables, config = self._encoder(pooler=self._has(f"{self.scope}/pooler/"))
        return VariablePlan(EncoderModel, config, variables)

    def _plan_discriminator(self) -> VariablePlan:
        encoder, config = self._encoder()
        variables = names.prefixed("model", encoder) | names.replaced_token_names()
        self._require("a discriminator", "discriminator_predictions/", variables)
        return VariablePlan(EncoderForReplacedTokenDetection, config, variables)

    def _plan_masked_lm(self) -> VariablePlan:
        encoder, config = self._encoder()
        head = "cls/predictions" if self.scope == "bert" else "generator_predictions"
        variables = names.prefixed("model", encoder) | names.masked_lm_names(head)
        self._require("a masked language model", f"{head}/", variables)
        return VariablePlan(EncoderForMaskedLM, config, variables)

    def _plan_generator(self) -> VariablePlan:
        encoder, config = self._generator()
        variables = names.prefixed("model", encoder) | names.masked_lm_names("generator_predictions")
        self._require("a generator", "generator_predictions/", variables)
        return VariablePlan(EncoderForMaskedLM, config, variables)

    def _plan_pretraining(self) -> VariablePlan:
        discriminator, generator = self._plan_discriminator(), self._plan_generator()
        untied = self._has("generator/embeddings/")
        variables = names.prefixed("discriminator", discriminator.variables)
        for name, variable in names.prefixed("generator", generator.variables).items():
            if untied or not name.startswith("generator.model.embeddings."):
                variables[name] = variable
        config = ElectraConfig(
            generator=generator.config, discriminator=discriminator.config, untied_generator_embeddings=untied
        )
        return VariablePlan(ElectraForPreTraining, config, variables)

    def _plan_classifier(self, task: str | None) -> VariablePlan:
        if task is None:
            task = self._only_task()
        if self.scope == "bert" and set(self.present) >= _BERT_CLASSIFIER:
            head, labels = names.bert_classifier_names(), self.shapes["output_bias"]
        else:
            head = names.task_names(task)
            wanted = {variable.name for variable in head.values()}
            found = {name for name in self.present if name.startswith(f"task_specific/{task}/")}
            if not found:
                tasks = ", ".join(self._tasks()) or "none"
                raise InputError(f"{self.source} has no fine-tuned task {task!r}; it has: {tasks}")
            if found - wanted:
                raise InputError(
                    f"task {task!r} of {self.source} has no classification head but {shorten(sorted(found))}"
                )
            labels = self.shapes.get(f"task_specific/{task}/dense/bias", (1,))
        fields = {"num_labels": labels[0]}
        if task in _TASK_LABELS and len(_TASK_LABELS[task]) == labels[0]:
            id2label = dict(enumerate(_TASK_LABELS[task]))
            fields = {"id2label": id2label, "label2id": {label: i for i, label in id2label.items()}}
        if task in _REGRESSION_TASKS:
            fields["problem_type"] = "regression"
        tags = task in _TAGGING_TASKS
        if tags:
            self.notes.append(f"the tags have numbers only: the program that tuned {task} kept their names elsewhere")
        pooler = not tags and self._has(f"{self.scope}/pooler/")
        encoder, config = self._encoder(pooler=pooler, **fields)
        model_class = EncoderForTokenClassification if tags else EncoderForSequenceClassification
        return VariablePlan(model_class, config, names.prefixed("model", encoder) | head)

    def _encoder(self, pooler: bool = False, **fields) -> tuple[names.Names, EncoderConfig]:
        variables = self._network(self.scope, f"{self.scope}/embeddings")
        if pooler:
            variables |= names.pooler_names(self.scope)
        self._check_scope(self.scope, variables, allowed=f"{self.scope}/pooler/")
        return variables, self._config(self.scope, f"{self.scope}/embeddings", "encoder", pooler=pooler, **fields)

    def _generator(self) -> tuple[names.Names, EncoderConfig]:
        if not self._has("generator/"):
            raise InputError(f"{self.source} has no generator of its own (no variables in generator/)")
        embeddings = "generator/embeddings" if self._has("generator/embeddings/") else f"{self.scope}/embeddings"
        variables = self._network("generator", embeddings)
        self._check_scope("generator", variables)
        return variables, self._config("generator", embeddings, "generator")

    def _network(self, scope: str, embeddings: str) -> names.Names:
        """The weights of one encoder by name, as far as the checkpoint's names tell what it is made of."""
        variables = names.embedding_names(embeddings)
        if self._has(f"{scope}/embeddings_project/"):
            variables |= names.projection_names(scope)
        for number, layer in enumerate(self._layers(scope)):
            for position, place in enumerate(layer):
                ours = f"encoder.blocks.{number}.sublayers.{position}"
                variables |= names.sublayer_names(place, ours, self.present)
        return variables

    def _layers(self, scope: str) -> list[list[Place]]:
        try:
            layers = find_layers(scope, self.present)
        except InputError as error:
            raise InputError(f"{self.source} fits no plan: {error}") from None
        if not layers:
            raise InputError(f"{self.source} has no encoder: no variable {scope}/encoder/layer_0/…")
        return layers

    def _config(self, scope: str, embeddings: str, role: str, **fields) -> EncoderConfig:
        generator = role == "generator"
        known = self.known.generator if generator else self.known.encoder
        if "hidden_act" not in known:
            self.notes.append(f"{role}: hidden_act gelu is taken, as in the released programs; nothing tells it")
        return encoder_config(
            infer_architecture(self.shapes, self._layers(scope), embeddings),
            known,
            role,
            "--generator_num_attention_heads" if generator else "--num_attention_heads",
            padding=self.padding,
            **fields,
        )

    def _find_scope(self) -> str:
        scopes = [scope for scope in ("electra", "bert") if self._has(f"{scope}/")]
        if not scopes:
            found = sorted({name.split("/")[0] for name in self.present})
            raise InputError(
                f"{self.source} is no checkpoint of ConvBERT, LV-BERT, ELECTRA or BERT: no variables in electra/ or "
                f"bert/, only in {shorten(found) or 'nothing'}"
            )
        return scopes[0]

    def _default_part(self, task: str | None) -> str:
        if task is not None:
            return "classifier"
        return "discriminator" if self._has("discriminator_predictions/") else "encoder"

    def _has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.present)

    def _tasks(self) -> list[str]:
        return sorted({name.split("/")[1] for name in self.present if name.startswith("task_specific/")})

    def _only_task(self) -> str:
        tasks = self._tasks()
        if len(tasks) == 1:
            return tasks[0]
        if not tasks and set(self.present) >= _BERT_CLASSIFIER:
            return ""
        raise InputError(f"{self.source} has {len(tasks)} fine-tuned tasks, name one with --task: {', '.join(tasks)}")

    def _require(self, what: str, scope: str, variables: names.Names) -> None:
        wanted = {variable.name for variable in variables.values() if variable.name.startswith(scope)}
        found = {name for name in self.present if name.startswith(scope)}
        if not found:
            raise InputError(f"{self.source} has no head of {what} (no variables in {scope})")
        self._raise_misfits(wanted - found, found - wanted)

    def _check_scope(self, scope: str, variables: names.Names, allowed: str | None = None) -> None:
        """All weights of a network must be in the checkpoint with the right rank, and nothing else in its scope."""
        wanted = {variable.name: variable for variable in variables.values()}
        found = {name for name in self.present if name.startswith(f"{scope}/")}
        extra = {name for name in found - wanted.keys() if allowed is None or not name.startswith(allowed)}
        self._raise_misfits(wanted.keys() - set(self.present), extra)
        misshaped = [
            f"{name} {list(self.shapes[name])} instead of {variable.rank} axes of at least 1"
            for name, variable in wanted.items()
            if len(self.shapes[name]) != variable.rank or 0 in self.shapes[name]
        ]
        if misshaped:
            raise InputError(f"{self.source} has mis-shaped variables: {shorten(misshaped)}")

    def _raise_misfits(self, missing: Iterable[str], unexpected: Iterable[str]) -> None:
        problems = [
            f"{len(found)} {what} ({shorten(found)})"
            for what, found in (("missing", sorted(missing)), ("unexpected", sorted(unexpected)))
            if found
        ]
        if problems:
            raise InputError(f"the variables of {self.source} do not fit the model: {'; '.join(problems)}")

    def _check_weights(self, plan: VariablePlan) -> None:
        """Compares the shapes that variables will have here with the model's."""
        found = {}
        for ours, variable in plan.variables.items():
            # a broadcast of one number has the shape without the memory
            array = np.broadcast_to(np.float32(0), self.shapes[variable.name])
            found[ours] = variable.layout(array).shape
        expected = weight_shapes(build_empty(plan.model_class, plan.config))
        theirs = {ours: variable.name for ours, variable in plan.variables.items()}
        check_weights(expected, found, self.source, foreign=lambda ours: theirs.get(ours, ours))

    def _left_out(self, used: set[str]) -> dict[str, list[str]]:
        left_out: dict[str, list[str]] = {}
        for name in self.shapes:
            if name in used:
                continue
            match = self.bookkeeping.get(name)
            if match:
                reason = "optimizer state" if match["optimizer"] else "training step"
            else:
                reason = next(reason for prefix, reason in self._known_scopes() if name.startswith(prefix))
            left_out.setdefault(reason, []).append(name)
        return left_out

    def _check_unknown(self) -> None:
        prefixes = tuple(prefix for prefix, _ in self._known_scopes())
        self._raise_misfits((), [name for name in self.present if not name.startswith(prefixes)])

    def _known_scopes(self) -> list[tuple[str, str]]:
        """Prefixes of variables, and why they are left out where they are."""
        tasks = [
            (f"task_specific/{task}/", f"head of the fine-tuned task {task} (--part classifier --task {task})")
            for task in self._tasks()
        ]
        scopes = [
            *tasks,
            ("generator_predictions/", "masked language model's head (--part generator, masked_lm or pretraining)"),
            ("discriminator_predictions/", "replaced-token head (--part discriminator or pretraining)"),
            ("generator/", "generator (--part generator or pretraining)"),
            ("electra/", "encoder (--part encoder)"),
        ]
        if self.scope == "bert":
            scopes += [
                ("bert/pooler/", "pooler (--part encoder)"),
                ("bert/", "encoder (--part encoder)"),
                ("cls/predictions/", "masked language model's head (--part masked_lm)"),
                ("cls/seq_relationship/", "next-sentence head, which has no counterpart"),
                ("cls/squad/", "question-answering head, which has no counterpart"),
                ("output_weights", "classification head (--part classifier)"),
                ("output_bias", "classification head (--part classifier)"),
            ]
        return scopes
