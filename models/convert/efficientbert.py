"""State dicts of EfficientBERT's program (students, supernets, TinyBERT and BERT in its layout) as models of ours."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from bertkernels.errors import InputError

from ..configuration import EncoderConfig
from ..genotype import genotype_plan, read_genotype
from .conversion import Conversion
from .efficientbert_names import UNUSED, Names, Source, encoder_names, linear
from .from_huggingface import MODEL_CLASSES
from .load import build_empty, check_weights, fill, weight_shapes
from .weight_files import read_weight_file

SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")
_HEADS = 12  # of all published models
_BLOCK = re.compile(r"encoder\.(\d+)\.")
_STACKED = re.compile(r"encoder\.\d+\.all_ffn\.(\d+)\.")
_MARK = "embeddings.token_embeddings.weight"


def convert_efficientbert(
    file: str | Path,
    genotype: str | None = None,
    *,
    part: str | None = None,
    num_attention_heads: int | None = None,
    expression_widths: str | None = None,
    any_expression: bool = False,
    classifier: int | None = None,
    padding: str | None = None,
) -> Conversion:
    """Reads a file with a state dict of EfficientBERT's program, alone or as "state_dict" of a checkpoint.

    Sizes are those of the weights. Of stacked feed-forward layers the model has as many, and of their width as much, as
    the genotype says: the rest is left behind.

    Args:
        file: PyTorch's (read as plain tensors) or safetensors.
        genotype: as `read_genotype` takes it; needed where the file has `all_ffn` layers.
        part: "encoder", or a head: None: the one that the file has.
        num_attention_heads: None: 12, as in all published models.
        expression_widths: as in `EncoderConfig`; None: "crop" with trigram embeddings, which the searched models have,
            "pad" without, as in their transfer to TinyBERT's size.
        any_expression: takes expressions that break the rules of the search space.
        classifier: which head of a multi-task model, from 0.
        padding: as in `EncoderConfig`; None: "reference".

    Raises:
        InputError: a file that cannot be read or is something else, weights that do not fit, a genotype that does not.
    """
    file = Path(file)
    weights = {name.removeprefix("module."): weight for name, weight in read_weight_file(file).items()}
    if _MARK not in weights:
        raise InputError(f"{file} is no state dict of EfficientBERT's program: it has no {_MARK}")
    notes: list[str] = []
    part = part or _part_of(weights)
    if part not in _HEAD_NAMES:
        raise InputError(f"part must be one of {', '.join(_HEAD_NAMES)}, got {part!r}")
    head = _head_names(weights, part, classifier, file)
    config = _config(weights, file, genotype, num_attention_heads or _HEADS, expression_widths, any_expression, notes)
    config.padding = padding or "reference"
    if part in ("classifier", "token_classifier"):
        config.num_labels = len(weights[head["classifier.output.bias"].name])
    model = build_empty(MODEL_CLASSES[part], config)
    expected = weight_shapes(model)
    names = encoder_names(config)
    if part != "encoder":
        names = {f"model.{ours}": source for ours, source in names.items()} | head
    names = {ours: source for ours, source in names.items() if ours in expected}
    theirs = {ours: source.of(weights[source.name]) for ours, source in names.items() if source.name in weights}
    left = _left_behind(weights, {source.name for source in names.values()}, config, part)
    found = {ours: tuple(weight.shape) for ours, weight in theirs.items()}
    found |= {name: tuple(weight.shape) for name, weight in weights.items() if name in left["unexpected"]}
    check_weights(expected, found, str(file), lambda ours: names[ours].name if ours in names else ours)
    notes += _notes(weights, theirs, left, config)
    return Conversion(fill(model, theirs), notes)


def _part_of(weights: Mapping[str, torch.Tensor]) -> str:
    if "lm_head.dense.weight" in weights:
        return "masked_lm"
    if any(name.startswith(("classifier.", "classifiers.")) for name in weights):
        return "classifier" if "cls_pooler.dense.weight" in weights else "question_answering"
    return "encoder"


_HEAD_NAMES: dict[str, Names] = {
    "encoder": {},
    "masked_lm": {
        **linear("prediction.dense", "lm_head.dense"),
        **linear("prediction.norm", "lm_head.layernorm"),
        "prediction.bias": Source("lm_head.lm_bias"),
    },
    "classifier": linear("classifier.output", "classifier"),
    "question_answering": linear("span.output", "classifier"),
    "multiple_choice": linear("classifier.output", "classifier"),
}


def _head_names(weights: Mapping[str, torch.Tensor], part: str, classifier: int | None, file: Path) -> Names:
    """Also raises where the file does not have the head, or has several and it is not said which."""
    numbers = sorted({int(name.split(".")[1]) for name in weights if name.startswith("classifiers.")})
    if part == "classifier" and numbers:
        if classifier not in numbers:
            raise InputError(f"{file} has the heads of several tasks: classifier must be one of {numbers}")
        return linear("classifier.output", f"classifiers.{classifier}")
    names = _HEAD_NAMES[part]
    lacking = [source.name for source in names.values() if source.name not in weights]
    if lacking:
        raise InputError(f"{file} has no {part} head: {', '.join(lacking)} missing")
    if part == "masked_lm" and not torch.equal(
        weights.get("lm_head.lm_decoder.weight", weights[_MARK]), weights[_MARK]
    ):
        raise InputError(f"{file}: lm_head.lm_decoder.weight differs from {_MARK}, which it is tied to")
    return names


def _config(
    weights: Mapping[str, torch.Tensor],
    file: Path,
    genotype: str | None,
    heads: int,
    widths: str | None,
    any_expression: bool,
    notes: list[str],
) -> EncoderConfig:
    blocks = 1 + max((int(found[1]) for found in map(_BLOCK.match, weights) if found), default=-1)
    if not blocks:
        raise InputError(f"{file} has no encoder.0")
    stacked = any(map(_STACKED.match, weights))
    trigram = "embeddings.dense.weight" in weights
    up = "encoder.0.all_ffn.0.dense1.weight" if stacked else "encoder.0.ffn.dense1.weight"
    for name in ("embeddings.position_embeddings.weight", "embeddings.segment_embeddings.weight", up):
        if name not in weights:
            raise InputError(f"the weights in {file} do not fit the model: 1 missing ({name})")
    if stacked and genotype is None:
        raise InputError(
            f"{file} holds a student or a supernet, which only its genotype tells apart: give --genotype released, "
            "supernet, or a file of expressions"
        )
    if not stacked and genotype is not None:
        raise InputError(f"{file} has no all_ffn layers: a genotype says nothing of it")
    if stacked:
        plan = genotype_plan(read_genotype(genotype, rules=not any_expression), blocks)
        if widths is None and not trigram:
            notes.append(
                "expressions pad different widths (expression_widths=pad), as in the transfer to TinyBERT's size"
            )
        widths = widths or ("crop" if trigram else "pad")
    else:
        plan = f"{blocks}*(attention ffn)"
    vocabulary, narrow = weights[_MARK].shape
    positions, hidden = weights["embeddings.position_embeddings.weight"].shape
    return EncoderConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        embedding_size=narrow,
        trigram_embeddings=trigram,
        num_attention_heads=heads,
        intermediate_size=len(weights[up]),
        plan=plan,
        expression_widths=widths or "crop",
        expression_rules=not any_expression,
        hidden_act="gelu_tanh",
        max_position_embeddings=positions,
        type_vocab_size=len(weights["embeddings.segment_embeddings.weight"]),
        layer_norm_eps=1e-5,
        pooler="cls_pooler.dense.weight" in weights,
    )


def _left_behind(
    weights: Mapping[str, torch.Tensor], used: set[str], config: EncoderConfig, part: str
) -> dict[str, list[str]]:
    """Names that the model has no use for: the projection, stacked layers beyond the genotype's, heads; and others."""
    left: dict[str, list[str]] = {"fit": [], "stacked": [], "heads": [], "unexpected": []}
    for name in weights:
        if name in used or name == "lm_head.lm_decoder.weight":
            continue
        place, block = _STACKED.match(name), _BLOCK.match(name)
        if name.startswith(UNUSED):
            left["fit"].append(name)
        elif place and int(place[1]) >= config.parsed_plan.blocks[int(block[1])].sublayers[1].stack:
            left["stacked"].append(name)
        elif name.startswith(("classifier.", "classifiers.", "lm_head.", "cls_pooler.")):
            left["heads"].append(name)
        else:
            left["unexpected"].append(name)
    return left


def _notes(
    weights: Mapping[str, torch.Tensor],
    theirs: Mapping[str, torch.Tensor],
    left: Mapping[str, list[str]],
    config: EncoderConfig,
) -> list[str]:
    notes = []
    if left["fit"]:
        notes.append("left out: fit_dense, the projection to the teacher's width, which only distillation uses")
    if left["heads"]:
        heads = sorted({name.rpartition(".")[0] for name in left["heads"]})
        notes.append(f"left out: {', '.join(heads)}")
    skipped = {name for names in left.values() for name in names}
    whole = sum(weight.numel() for name, weight in weights.items() if name not in skipped)
    layers = sum(weights[name].numel() for name in left["stacked"])
    sliced = whole - sum(weight.numel() for weight in theirs.values())
    if "lm_head.lm_decoder.weight" in weights:
        sliced -= weights["lm_head.lm_decoder.weight"].numel()
    if layers or sliced:
        notes.append(f"left out: {layers + sliced:,} numbers of feed-forward layers that the genotype does not use")
    notes.append(f"num_attention_heads={config.num_attention_heads}, which the weights do not tell")
    return notes
