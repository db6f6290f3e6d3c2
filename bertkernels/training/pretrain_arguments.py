"""The flags of pre-training: objective, model and masking. Those of the text stand in `bertkernels.data`."""

from dataclasses import dataclass, field, fields, replace
from typing import Literal

from bertkernels.data.prepared.folder import Prepared
from bertkernels.data.text_arguments import TextArguments, check_text
from bertkernels.errors import InputError
from bertkernels.training.encoder_size_arguments import SIZE_FIELDS, EncoderSizeArguments
from bertkernels.training.masking import MASKINGS, max_predictions

ELECTRA, MASKED_LM, MASKED_LM_NSP = "electra", "masked_lm", "masked_lm_nsp"
OBJECTIVES = (ELECTRA, MASKED_LM, MASKED_LM_NSP)
PATH_SAMPLINGS = ("uniform", "balanced")
PAIRS = "bert_pairs"  # the packing that next-sentence prediction is for
ENCODER_FIELDS = (*SIZE_FIELDS, "max_position_embeddings", "padding", "supernet_kinds")
# flags that may be said again with a prepared folder, and their names in its manifest
PREPARED_FLAGS = {
    "packing": "name",
    "max_seq_length": "max_length",
    "dupe_factor": "dupe_factor",
    "short_seq_prob": "short_seq_prob",
}
SUPERNET_FIELDS = ("path_sampling", "supernet_generator")
GENERATOR_FIELDS = ("generator_size", "generator_layers", "untied_generator_embeddings")
ELECTRA_FIELDS = (
    *GENERATOR_FIELDS,
    "untied_generator",
    "uniform_generator",
    "masked_lm_weight",
    "discriminator_weight",
    "temperature",
    "disallow_correct",
)


@dataclass
class PretrainArguments(EncoderSizeArguments, TextArguments):
    """What to pre-train, and on which text."""

    objective: Literal["electra", "masked_lm", "masked_lm_nsp"] = field(
        default="electra",
        metadata={
            "help": "electra: a generator, and the encoder tells replaced tokens; masked_lm: the encoder predicts; "
            "masked_lm_nsp: and says whether two segments follow each other, as BERT (--packing bert_pairs)."
        },
    )
    preset: str | None = field(
        default=None, metadata={"help": "A published encoder: convbert-small, electra-base, ..."}
    )
    config_file: str | None = field(
        default=None, metadata={"help": "config.json of an encoder, or of a generator and discriminator."}
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Go on from the weights that an earlier run of the same objective wrote, with a new optimizer and "
            "schedule."
        },
    )
    max_position_embeddings: int | None = field(default=None, metadata={"help": "Longest sequence the model can take."})
    padding: str | None = field(default=None, metadata={"help": '"exact" or "reference".'})
    supernet_kinds: list[str] | None = field(
        default=None,
        metadata={
            "help": "Train a supernet: each sub-layer of the plan becomes a slot that holds all of these, such as "
            "attention ffn dynamic_conv; each step trains one path. For `bertkernels search`."
        },
    )
    path_sampling: Literal["uniform", "balanced"] = field(
        default="uniform",
        metadata={
            "help": "A supernet's path in each step. uniform: any kind in any slot; balanced: each kind equally often "
            "in every slot."
        },
    )
    supernet_generator: bool = field(
        default=False,
        metadata={
            "help": "A supernet's generator is one too and takes the same path, as LV-BERT's generator has the "
            "discriminator's plan; else it has --plan whatever the path, so that all paths read the same tokens."
        },
    )
    generator_size: float | None = field(
        default=None,
        metadata={
            "aliases": ["--generator_hidden_size"],
            "help": "Width of the generator as a fraction of the discriminator's (default: the preset's, else 0.25).",
        },
    )
    generator_layers: float | None = field(
        default=None,
        metadata={"help": "Blocks of the generator as a fraction of the discriminator's, the first ones (default: 1)."},
    )
    untied_generator_embeddings: bool = field(default=False, metadata={"help": "Embeddings of the generator's own."})
    untied_generator: bool = field(
        default=True, metadata={"help": "A generator of its own; false: one network does both."}
    )
    uniform_generator: bool = field(
        default=False, metadata={"help": "No generator: replace by any token of the vocabulary, as likely each."}
    )
    masked_lm_weight: float = field(default=1.0, metadata={"help": "Weight of the generator's loss."})
    discriminator_weight: float = field(default=50.0, metadata={"help": "Weight of the discriminator's loss."})
    temperature: float = field(default=1.0, metadata={"help": "Of the distribution the generator samples from."})
    disallow_correct: bool = field(default=False, metadata={"help": "Never sample the true token."})

    prepared_dir: str | None = field(
        default=None,
        metadata={"help": "What `bertkernels prepare` wrote: examples and tokenizer, in place of text and vocabulary."},
    )
    masking: Literal["without_replacement", "electra", "bert"] = field(
        default="without_replacement",
        metadata={
            "help": "without_replacement: 85%% of the chosen positions become [MASK]; electra: the same, but positions "
            "are drawn with replacement and what is sampled for repeated ones is averaged, as in the original; bert: "
            "80%% become [MASK], 10%% a random token."
        },
    )
    whole_word_masking: bool = field(default=False, metadata={"help": "Predict all pieces of a word or none."})
    mask_probability: float = field(default=0.15, metadata={"help": "Share of tokens to predict."})
    pad_to_max_length: bool = field(default=False, metadata={"help": "All batches of one width (torch.compile)."})
    data_cache_dir: str | None = field(
        default=None, metadata={"help": "Where examples are kept between runs; default: the cache folder."}
    )


def check_arguments(arguments: PretrainArguments) -> None:
    """Raises InputError for flags that don't go together or are out of range, before anything is read."""
    sources = ("preset", "config_file", "model_name_or_path")
    if sum(getattr(arguments, name) is not None for name in sources) != 1:
        raise InputError("give either --preset or --config_file or --model_name_or_path")
    for name, value, known in (
        ("objective", arguments.objective, OBJECTIVES),
        ("masking", arguments.masking, MASKINGS),
    ):
        if value not in known:
            raise InputError(f"--{name} must be one of {', '.join(known)}, not {value!r}")
    if not 0 < arguments.mask_probability < 1:
        raise InputError(f"--mask_probability must be between 0 and 1, not {arguments.mask_probability}")
    _check_generator(arguments)
    _check_supernet(arguments)
    if arguments.model_name_or_path:
        for name in (*ENCODER_FIELDS, *GENERATOR_FIELDS, "untied_generator", "uniform_generator"):
            if name != "padding" and changed(arguments, name):
                raise InputError(f"--{name} does not go with --model_name_or_path, whose model is what it is")
    if arguments.prepared_dir is None:
        check_text(arguments)
        if arguments.objective == MASKED_LM_NSP and arguments.packing != PAIRS:
            raise InputError(f"--objective {MASKED_LM_NSP} needs sentence pairs: --packing {PAIRS}")
        _check_length(arguments, arguments.packing_options().max_length)
    else:
        for flag in fields(TextArguments):
            if flag.name not in (*PREPARED_FLAGS, "num_workers") and changed(arguments, flag.name):
                raise InputError(f"--{flag.name} is for `bertkernels prepare`: --prepared_dir has its own text")


def changed(arguments: PretrainArguments, name: str) -> bool:
    """Whether a flag has another value than where it is not given."""
    return getattr(arguments, name) != PretrainArguments.__dataclass_fields__[name].default


def fit_prepared(arguments: PretrainArguments, prepared: Prepared) -> PretrainArguments:
    """The arguments with the length of prepared examples. Raises InputError where they say something else about them,
    or need another kind."""
    packing = prepared.manifest["facts"]["packing"]
    for name, key in PREPARED_FLAGS.items():
        if changed(arguments, name) and key in packing and getattr(arguments, name) != packing[key]:
            value, there = getattr(arguments, name), packing[key]
            raise InputError(f"--{name} {value}: --prepared_dir {prepared.folder} was prepared with {there}")
    if arguments.objective == MASKED_LM_NSP and packing["name"] != PAIRS:
        raise InputError(
            f"--objective {MASKED_LM_NSP} needs sentence pairs: --prepared_dir {prepared.folder} was prepared with "
            f"--packing {packing['name']}, not {PAIRS}"
        )
    _check_length(arguments, prepared.max_length)
    return replace(arguments, max_seq_length=prepared.max_length)


def _check_length(arguments: PretrainArguments, length: int) -> None:
    if max_predictions(length, arguments.mask_probability) < 1:
        raise InputError(f"--max_seq_length {length} leaves no room for a prediction")


def _check_supernet(arguments: PretrainArguments) -> None:
    if arguments.path_sampling not in PATH_SAMPLINGS:
        known = ", ".join(PATH_SAMPLINGS)
        raise InputError(f"--path_sampling must be one of {known}, not {arguments.path_sampling!r}")
    for name in SUPERNET_FIELDS if arguments.supernet_kinds is None else ():
        if changed(arguments, name) and not (name == "path_sampling" and arguments.model_name_or_path):
            raise InputError(f"--{name} is for supernets: give --supernet_kinds")
    if arguments.supernet_generator and arguments.objective != ELECTRA:
        raise InputError("--supernet_generator is for --objective electra: a masked language model has no generator")


def _check_generator(arguments: PretrainArguments) -> None:
    if arguments.objective != ELECTRA:
        for name in ELECTRA_FIELDS:
            if changed(arguments, name):
                raise InputError(f"--{name} is for --objective electra: a masked language model has no generator")
    if arguments.uniform_generator and not arguments.untied_generator:
        raise InputError("give --uniform_generator or --untied_generator false, not both")
    for without, said in (
        (arguments.uniform_generator, "--uniform_generator"),
        (not arguments.untied_generator, "--untied_generator false"),
    ):
        for name in GENERATOR_FIELDS if without else ():
            if changed(arguments, name):
                raise InputError(f"--{name} does not go with {said}: there is no generator of its own")
    for name in ("generator_size", "generator_layers"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value <= 1:
            raise InputError(f"--{name} must be above 0 and at most 1, not {value}")
