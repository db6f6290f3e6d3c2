"""`bertkernels convert`: checkpoints of others to ours, and back."""

import argparse
from pathlib import Path

from bertkernels.errors import InputError

_DESCRIPTION = """\
Converts a model. SOURCE is a TensorFlow checkpoint of ConvBERT, LV-BERT, ELECTRA or BERT (its prefix, its .index file
or its folder), a Hugging Face folder of model type convbert, electra or bert, a file with a state dict of
EfficientBERT's program, or a folder of ours. DEST is a new folder."""

_TENSORFLOW_FLAGS = (
    "config",
    "task",
    "num_attention_heads",
    "generator_num_attention_heads",
    "head_ratio",
    "hidden_act",
)
_EFFICIENTBERT_FLAGS = ("expression_widths", "any_expression", "classifier")
_OURS, _EFFICIENTBERT = "model of ours", "state dict of EfficientBERT's program"


def run(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    source, destination = Path(arguments.source), Path(arguments.destination)
    if not source.exists() and not source.with_name(source.name + ".index").is_file():
        raise InputError(f"SOURCE {source} does not exist")
    if source.is_dir() and source.resolve() == destination.resolve():
        raise InputError(f"SOURCE and DEST are the same folder, {source}")

    from bertkernels.models.convert.save import check_destination

    check_destination(destination, arguments.overwrite_output_dir)
    model, kind, notes = _load(source, arguments)
    print(f"{source}: {kind}")
    model = _inherited(model, kind, arguments)
    print(_describe(model))
    tokenizer = _write(model, source, destination, arguments)
    for note in [*notes, *tokenizer]:
        print(f"  {note}")
    print(f"written to {destination}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bertkernels convert", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("destination", metavar="DEST")
    parser.add_argument(
        "--to",
        choices=("ours", "huggingface", "bert", "electra", "convbert"),
        default="ours",
        help="what to write; huggingface: the model type that fits (default: ours)",
    )
    parser.add_argument(
        "--part",
        help="encoder, discriminator, generator, masked_lm, pretraining, classifier, token_classifier, "
        "question_answering or multiple_choice (default: what the source is; of a "
        "TensorFlow checkpoint the discriminator, else the encoder)",
    )
    parser.add_argument(
        "--padding",
        choices=("exact", "reference"),
        help="whether padding takes part in convolutions as in the released programs (default: reference for "
        "ConvBERT, LV-BERT, EfficientBERT and TensorFlow's ELECTRA)",
    )
    parser.add_argument("--overwrite_output_dir", action="store_true", help="replace the model in DEST")
    efficient = parser.add_argument_group("a state dict of EfficientBERT's program (.bin, .pt, .pth, .safetensors)")
    efficient.add_argument(
        "--genotype",
        help="released, supernet, or a file with an expression a line or a JSON list of them, such as "
        "tanh(linear4_2(gelu(linear4_2(x,wb1)),wb2)); six may stand for twelve blocks",
    )
    efficient.add_argument(
        "--expression_widths",
        choices=("crop", "pad", "pad_published"),
        help="what add, mul and max do with different widths (default: crop with trigram embeddings, else pad)",
    )
    efficient.add_argument(
        "--any_expression", action="store_true", default=None, help="take expressions that break the search's rules"
    )
    efficient.add_argument(
        "--inherit",
        metavar="PRESET",
        help="write this preset with slices of the source's weights, such as efficientbert-plusplus of a supernet; "
        "of a folder of ours, --genotype replaces its genotype, or alone names the student to cut out",
    )
    efficient.add_argument(
        "--plain_slicing",
        action="store_true",
        help="narrower heads take the first channels of all heads together, as the original's do, not each its own",
    )
    efficient.add_argument("--classifier", type=int, metavar="N", help="which head of a multi-task model, from 0")
    tensorflow = parser.add_argument_group("what shapes in a TensorFlow checkpoint do not tell")
    tensorflow.add_argument(
        "--config", help="JSON file that describes the model: the original program's configuration or hyperparameters"
    )
    tensorflow.add_argument("--task", help="fine-tuned task whose head to convert (with --part classifier)")
    tensorflow.add_argument(
        "--num_attention_heads", type=int, help="heads before head_ratio; also of EfficientBERT (default there: 12)"
    )
    tensorflow.add_argument("--generator_num_attention_heads", type=int, help="the generator's heads before head_ratio")
    tensorflow.add_argument("--head_ratio", type=float)
    tensorflow.add_argument("--hidden_act", help="default: gelu, as in the released programs")
    return parser


def _load(source: Path, arguments: argparse.Namespace) -> tuple:
    """The model, what its source is, and notes for the user."""
    from bertkernels.models.convert.efficientbert import SUFFIXES
    from bertkernels.models.convert.from_huggingface import convert_huggingface, read_model_type
    from bertkernels.models.convert.huggingface_names import MODEL_TYPES
    from bertkernels.models.convert.ours import OUR_MODEL_TYPES, load_ours
    from bertkernels.models.convert.tensorflow import convert_tensorflow

    if source.is_file() and source.suffix in SUFFIXES:
        return _load_efficientbert(source, arguments)
    _refuse(_EFFICIENTBERT_FLAGS, arguments, f"a state dict of EfficientBERT's program, which {source} is not")
    flags = {name: getattr(arguments, name) for name in _TENSORFLOW_FLAGS}
    model_type = read_model_type(source) if (source / "config.json").is_file() else None
    if model_type is None and (not source.is_dir() or _has_checkpoint(source)):
        conversion = convert_tensorflow(source, part=arguments.part, padding=arguments.padding, **flags)
        return conversion.model, "TensorFlow checkpoint", conversion.notes
    _refuse(_TENSORFLOW_FLAGS, arguments, f"TensorFlow checkpoints, which {source} is not")
    if model_type in MODEL_TYPES:
        conversion = convert_huggingface(source, arguments.part, arguments.padding)
        return conversion.model, f"Hugging Face {model_type}", conversion.notes
    if model_type in OUR_MODEL_TYPES:
        model = load_ours(source, arguments.part)
        if arguments.padding is not None:
            for config in _encoder_configs(model):
                config.padding = arguments.padding
        return model, _OURS, []
    known = ", ".join((*MODEL_TYPES, *OUR_MODEL_TYPES))
    raise InputError(
        f"SOURCE {source} is neither a TensorFlow checkpoint (a file `checkpoint` or *.index) nor a folder with a "
        f"config.json of a known model_type ({known}); its model_type is {model_type!r}"
    )


def _load_efficientbert(source: Path, arguments: argparse.Namespace) -> tuple:
    from bertkernels.models.convert.efficientbert import convert_efficientbert

    others = tuple(name for name in _TENSORFLOW_FLAGS if name != "num_attention_heads")
    _refuse(others, arguments, f"TensorFlow checkpoints, which {source} is not")
    conversion = convert_efficientbert(
        source,
        arguments.genotype,
        part=arguments.part,
        num_attention_heads=arguments.num_attention_heads,
        expression_widths=arguments.expression_widths,
        any_expression=bool(arguments.any_expression),
        classifier=arguments.classifier,
        padding=arguments.padding,
    )
    return conversion.model, _EFFICIENTBERT, conversion.notes


def _inherited(model, kind: str, arguments: argparse.Namespace):
    """The model, or what is to be cut out of it."""
    if arguments.plain_slicing and arguments.inherit is None:
        raise InputError("--plain_slicing says how a preset inherits: give --inherit")
    from bertkernels.models.genotype import read_genotype
    from bertkernels.models.inheritance import inherited_model, preset_like, student_config

    genotype = None
    if kind != _EFFICIENTBERT and arguments.genotype is not None:
        genotype = read_genotype(arguments.genotype)
    if arguments.inherit is None and genotype is None:
        return model
    if not hasattr(model.config, "plan"):
        raise InputError(f"a {type(model).__name__} has two encoders: choose one with --part")
    if arguments.inherit is None:
        config = student_config(model.config, genotype)
    else:
        config = preset_like(model.config, arguments.inherit, genotype)
    return inherited_model(model, config, head_boundaries=not arguments.plain_slicing)


def _refuse(names: tuple[str, ...], arguments: argparse.Namespace, what_for: str) -> None:
    given = [f"--{name}" for name in names if getattr(arguments, name) is not None]
    if given:
        raise InputError(f"{', '.join(given)} is for {what_for}")


def _has_checkpoint(folder: Path) -> bool:
    return (folder / "checkpoint").is_file() or any(folder.glob("*.index"))


def _write(model, source: Path, destination: Path, arguments: argparse.Namespace) -> list[str]:
    """Writes the model and the tokenizer that stands beside it; returns notes for the user."""
    from bertkernels.models.convert.save import save_model
    from bertkernels.models.convert.to_huggingface import their_model

    notes = []
    if arguments.to != "ours":
        padding = model.config.padding if hasattr(model.config, "padding") else None
        model = their_model(model, arguments.to)
        notes.append(f"as Hugging Face {model.config.model_type}, {type(model).__name__}")
        if padding == "exact" and model.config.model_type == "convbert":
            notes.append("padding took no part in convolutions before (padding=exact); in Hugging Face's it does")
    beside = source if source.is_dir() else source.parent
    copied = save_model(model, destination, beside, arguments.overwrite_output_dir)
    if copied:
        notes.append(f"tokenizer: {', '.join(copied)}")
    else:
        notes.append(f"no tokenizer beside the source: put vocab.txt or tokenizer.json into {destination}")
    return notes


def _encoder_configs(model) -> list:
    pair = hasattr(model.config, "discriminator")
    return [model.config.generator, model.config.discriminator] if pair else [model.config]


def _describe(model) -> str:
    """One line for the model and one for each encoder in it."""
    count = sum(parameter.numel() for parameter in model.parameters())
    lines = [f"  {type(model).__name__}, {count:,} parameters"]
    names = ("generator: ", "discriminator: ") if hasattr(model.config, "discriminator") else ("",)
    for name, config in zip(names, _encoder_configs(model), strict=True):
        sizes = {
            "hidden_size": config.hidden_size,
            "embedding_size": config.embedding_size,
            "num_attention_heads": config.num_attention_heads,
            "intermediate_size": config.intermediate_size,
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.max_position_embeddings,
        }
        if "mixed" in config.plan:
            sizes |= {"head_ratio": config.head_ratio}
        if "mixed" in config.plan or "dynamic_conv" in config.plan:
            sizes |= {"conv_kernel_size": config.conv_kernel_size}
        sizes |= {"hidden_act": config.hidden_act, "padding": config.padding}
        lines.append(f"  {name}{config.plan}")
        lines.append("    " + " ".join(f"{key}={value}" for key, value in sizes.items()))
    return "\n".join(lines)
