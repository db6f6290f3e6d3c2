"""A task that a student learns: its rows, and student and teacher with its head."""

from dataclasses import dataclass, replace

from transformers import set_seed

from bertkernels.errors import InputError
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.distillation.comparison import Comparison
from bertkernels.training.distillation.model import DistillationModel
from bertkernels.training.distillation.roles import Roles, check_tokenizer, compared_blocks, distillation_model
from bertkernels.training.distillation.student import student_model
from bertkernels.training.distillation.teacher import load_encoder, load_with_head, match_labels, model_folder
from bertkernels.training.distillation.teacher_logits import with_teacher_logits
from bertkernels.training.finetune import TaskData, encode_task, read_task
from bertkernels.training.finetuned_folder import finetuned_folder
from bertkernels.training.finetuning_model import check_length, encoder_folder
from bertkernels.training.tasks.task import FinetuningTask
from bertkernels.training.training_arguments import FinetuneRunArguments

TEACHER_FLAG = "--teacher_model_name_or_path"


@dataclass(frozen=True)
class LearnedTask:
    """The task's rows, and what trains on them."""

    data: TaskData
    model: DistillationModel
    comparison: Comparison


def learned_task(arguments: DistillArguments, run: FinetuneRunArguments) -> LearnedTask:
    """The task of the flags. Raises InputError for bad flags, files, labels, and for models that can't be compared."""
    task = read_task(arguments, run)
    if arguments.teacher_model_name_or_path is None:
        return _without_teacher(task, arguments, run)
    with run.main_process_first(desc="fetching the teacher"):
        folder = finetuned_folder(arguments.teacher_model_name_or_path, arguments.task_name)
        folder = model_folder(folder, TEACHER_FLAG)
    if arguments.logits_weight:
        teacher = load_with_head(folder, task, TEACHER_FLAG)
        match_labels(teacher, task, arguments.label_scale)
    else:
        teacher = load_encoder(folder, TEACHER_FLAG)

    def configure(config) -> None:
        task.configure(config)
        if hasattr(config, "qa_head") and arguments.qa_head is None:
            config.qa_head, config.answerable_classifier = teacher.config.qa_head, teacher.config.answerable_classifier

    data = encode_task(task, arguments, run, folder)
    tokenizer = data.tokenizer
    check_tokenizer(arguments, tokenizer, folder)
    set_seed(run.seed)
    student = student_model(arguments, tokenizer, teacher.config, task.auto_model, configure)
    classifier = getattr(student, "no_answer", None)
    if arguments.logits_weight and classifier is not None and teacher.no_answer is None:
        raise InputError(
            "the student has a classifier of unanswerable questions, the teacher none: give --qa_head plain"
        )
    roles = Roles(student, teacher, compared_blocks(arguments, student, teacher))
    model, comparison = distillation_model(arguments, roles, tokenizer)
    for role in (student, teacher):
        check_length(role, data.length)
    if arguments.teacher_logits is not None:
        if comparison != Comparison():
            raise InputError(
                "--teacher_logits is for runs whose losses ask nothing else of the teacher: set other weights to 0"
            )
        with run.main_process_first(desc="asking the teacher"):
            features = with_teacher_logits(
                data.train.features,
                teacher,
                arguments.teacher_logits,
                task.collator(tokenizer, data.length, False),
                run.device,
                run.per_device_eval_batch_size,
                not run.disable_tqdm,
            )
        data = replace(data, train=replace(data.train, features=features))
    return LearnedTask(data, model, comparison)


def _without_teacher(task: FinetuningTask, arguments: DistillArguments, run: FinetuneRunArguments) -> LearnedTask:
    data = encode_task(task, arguments, run, encoder_folder(arguments.model_name_or_path))
    set_seed(run.seed)
    student = student_model(arguments, data.tokenizer, None, task.auto_model, task.configure)
    model, comparison = distillation_model(arguments, Roles(student, None, ()), data.tokenizer)
    check_length(student, data.length)
    return LearnedTask(data, model, comparison)
