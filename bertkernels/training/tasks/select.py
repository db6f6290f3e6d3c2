"""The task that the flags of fine-tuning name."""

from bertkernels.data.labelled_text import Columns
from bertkernels.data.tasks import Task, builtin_library_task, files_task, glue_folder_task, hub_task
from bertkernels.errors import InputError
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.tasks.question_answering import QUESTION_TASKS, question_task
from bertkernels.training.tasks.task import FinetuningTask
from bertkernels.training.tasks.text_classification import TextClassification


def select_task(arguments: FinetuneArguments) -> FinetuningTask:
    """Reads the task. Raises InputError for flags that don't go together and for bad files, columns or labels."""
    if arguments.task_name in QUESTION_TASKS:
        return question_task(arguments)
    _check(arguments)
    return TextClassification(_classification(arguments))


def _check(arguments: FinetuneArguments) -> None:
    sources = (arguments.text_source, arguments.train_file, arguments.glue_dir, arguments.dataset_name)
    if sum(source is not None for source in sources) != 1:
        raise InputError("give one of --train_file, --glue_dir, --dataset_name and --text_source builtin")
    if (arguments.glue_dir is None) != (arguments.task_name is None):
        raise InputError(
            f"--glue_dir and --task_name go together, unless the task is one of {', '.join(QUESTION_TASKS)}"
        )
    if arguments.squad_dir is not None:
        raise InputError("--squad_dir goes with --task_name squad or squad_v2")
    if arguments.validation_file is not None and arguments.train_file is None:
        raise InputError("--validation_file goes with --train_file")


def _classification(arguments: FinetuneArguments) -> Task:
    columns = Columns(arguments.sentence1_column, arguments.sentence2_column, arguments.label_column)
    regression = arguments.task_type == "regression"
    if arguments.text_source:
        return builtin_library_task()
    if arguments.glue_dir:
        return glue_folder_task(arguments.glue_dir, arguments.task_name)
    if arguments.dataset_name:
        return hub_task(arguments.dataset_name, arguments.dataset_config_name, columns, regression)
    return files_task(arguments.train_file, arguments.validation_file, columns, regression)
