"""Who learns from whom, checked and made one model, whatever it is distilled on."""

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from bertkernels.data.tokenizer import load_tokenizer, model_vocab_size
from bertkernels.errors import InputError
from bertkernels.models.shape_budget import ShapeBudget
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.distillation.block_map import FIRST, block_map
from bertkernels.training.distillation.comparison import Comparison, compare
from bertkernels.training.distillation.model import DistillationModel, encoder_of
from bertkernels.training.distillation.projection import AUTO, NONE, PER_BLOCK, PROJECTION_FILE, Projection
from bertkernels.training.distillation.student import start_from_teacher
from bertkernels.training.distillation.teacher import DTYPES
from bertkernels.training.finetuning_model import encoder_folder
from bertkernels.training.genotype_steps import GenotypeSteps
from bertkernels.training.training_arguments import FinetuneRunArguments


@dataclass(frozen=True)
class Roles:
    """Who learns from whom, before they are one model."""

    student: PreTrainedModel
    teacher: PreTrainedModel | None  # None: labels alone teach
    blocks: tuple[int | None, ...]


def check_models(arguments: DistillArguments, student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Raises InputError for a student and a teacher whose blocks, heads or widths cannot be compared as asked."""
    blocks = compared_blocks(arguments, student, teacher)
    _projection(
        arguments,
        student,
        teacher,
        compare(encoder_of(student), encoder_of(teacher), blocks, arguments.loss_settings()),
    )


def shape_steps(
    arguments: DistillArguments, run: FinetuneRunArguments, student: PreTrainedModel
) -> list[TrainerCallback]:
    if not arguments.sample_shapes:
        return []
    limits = arguments.min_parameters, arguments.max_parameters
    try:
        budget = ShapeBudget(student.config, *limits, arguments.counted_projection)
    except InputError as error:
        raise InputError(f"--sample_shapes: {error}") from None
    return [GenotypeSteps(student, budget, run.seed)]


def check_tokenizer(arguments: DistillArguments, tokenizer: PreTrainedTokenizerBase, teacher: str) -> None:
    """Raises InputError where teacher or student read other tokens than the run's tokenizer, which is the teacher's own
    unless a flag names one."""
    for name in ("tokenizer_name", "vocab_file"):
        if getattr(arguments, name):
            check_vocabulary(tokenizer, teacher, f"--{name} {getattr(arguments, name)}")
    if arguments.model_name_or_path:
        check_vocabulary(tokenizer, encoder_folder(arguments.model_name_or_path), "the teacher")


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: str, other: str) -> None:
    """Raises InputError where a model's folder has a tokenizer of another vocabulary."""
    beside = any(Path(folder, name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    if beside and load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise InputError(f"{folder} has another vocabulary than {other}: student and teacher must read the same tokens")


def compared_blocks(
    arguments: DistillArguments, student: PreTrainedModel, teacher: PreTrainedModel
) -> tuple[int | None, ...]:
    """The map of blocks, which need not be one where nothing is compared; gives a fresh student its weights."""
    depths = [len(encoder_of(model).encoder.blocks) for model in (student, teacher)]
    blocks: tuple[int | None, ...] = ()
    if arguments.hidden_weight or arguments.attention_weight or arguments.init_from_teacher == "mapped":
        blocks = block_map(arguments.block_map, *depths)
    if arguments.init_from_teacher is not None:
        taken = block_map([FIRST], *depths) if arguments.init_from_teacher == "first" else blocks
        start_from_teacher(encoder_of(student), encoder_of(teacher), taken)
    return blocks


def distillation_model(
    arguments: DistillArguments, roles: Roles, tokenizer: PreTrainedTokenizerBase
) -> tuple[DistillationModel, Comparison]:
    student, teacher, settings = roles.student, roles.teacher, arguments.loss_settings()
    rows = model_vocab_size(tokenizer)
    for name, model in (("student", student), ("teacher", teacher)):
        if model is None:
            continue
        if model.config.vocab_size < rows:
            raise InputError(
                f"the {name} has {model.config.vocab_size:,} word embeddings, the tokenizer {rows:,} tokens"
            )
        if arguments.losses_at_padding:
            encoder_of(model).config.padding = model.config.padding = "reference"
    if teacher is None:
        return DistillationModel(student, None, Comparison(), settings), Comparison()
    comparison = compare(encoder_of(student), encoder_of(teacher), roles.blocks, settings)
    projection = _projection(arguments, student, teacher, comparison)
    teacher = teacher.to(DTYPES[arguments.teacher_dtype])
    return DistillationModel(student, teacher, comparison, settings, projection), comparison


def _projection(
    arguments: DistillArguments, student: PreTrainedModel, teacher: PreTrainedModel, comparison: Comparison
) -> Projection | None:
    """The layer between the widths, with the weights that stand beside the student where they are of its shape."""
    if not comparison.projected:
        return None
    widths = student.config.hidden_size, teacher.config.hidden_size
    if arguments.projection == NONE and widths[0] != widths[1]:
        raise InputError(
            f"--projection none: the student's hidden states have width {widths[0]}, the teacher's {widths[1]}"
        )
    if arguments.projection == NONE or (arguments.projection == AUTO and widths[0] == widths[1]):
        return None
    projection = Projection(*widths, comparison.projected, shared=arguments.projection != PER_BLOCK)
    earlier = Path(arguments.model_name_or_path or "", PROJECTION_FILE)
    if arguments.model_name_or_path and not arguments.from_scratch and earlier.is_file():
        weights = load_file(earlier)
        if {name: x.shape for name, x in weights.items()} == {
            name: x.shape for name, x in projection.state_dict().items()
        }:
            projection.load_state_dict(weights)
    return projection


def describe_roles(arguments: DistillArguments, model: DistillationModel, comparison: Comparison) -> dict[str, str]:
    """What a run is, for people."""
    settings, config = arguments.loss_settings(), model.student.config
    size = f"{model.student.num_parameters():,}"
    if model.projection is not None:
        size += f" and {sum(x.numel() for x in model.projection.parameters()):,} of the projection"
    losses = []
    if comparison.embeddings:
        losses.append("embeddings")
    for name, pairs, first in (("states", comparison.hidden, 0), ("scores", comparison.attention, 1)):
        if pairs:
            losses.append(f"{name} of blocks {', '.join(f'{s + first}←{t + first}' for s, t in pairs)}")
    if settings.logits_weight:
        losses.append("logits")
    if settings.label_weight:
        losses.append("labels")
    teacher = "none"
    if model.teachers:
        sizes = model.teacher.config
        teacher = f"{sizes.plan}, {sizes.hidden_size} wide ({arguments.teacher_model_name_or_path})"
    return {
        "teacher": teacher,
        "student": f"{config.plan}, {config.hidden_size} wide",
        "parameters": size,
        "losses": "; ".join(losses),
    }
