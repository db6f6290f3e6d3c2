"""The task that the flags of fine-tuning name."""

from bertkernels.data.glue_hub import HUB_NAMES
from bertkernels.data.labelled_text import Columns
from bertkernels.data.tasks import (
    Task,
    builtin_library_task,
    files_task,
    files_to_predict,
    glue_folder_task,
    glue_folder_to_predict,
    glue_hub_task,
    glue_hub_to_predict,
    hub_task,
    hub_to_predict,
)
from bertkernels.errors import InputError
from bertkernels.training.finetune_arguments import FinetuneArguments, TaskArguments
from bertkernels.training.predict_arguments import PredictArguments
from bertkernels.training.tasks.multiple_choice import CHOICE_TASKS, choice_task, choices_to_predict
from bertkernels.training.tasks.question_answering import QUESTION_TASKS, prediction_task, question_task
from bertkernels.training.tasks.tagging import TAGGING_TASKS, tagging_task, words_to_predict
from bertkernels.training.tasks.task import FinetuningTask
from bertkernels.training.tasks.text_classification import TextClassification

OTHER_TASKS = (*QUESTION_TASKS, *TAGGING_TASKS, *CHOICE_TASKS)  # that are none of GLUE's


def select_task(arguments: FinetuneArguments) -> FinetuningTask:
    """Reads the task. Raises InputError for flags that don't go together and for bad files, columns or labels."""
    if arguments.task_name in QUESTION_TASKS:
        return question_task(arguments)
    if arguments.task_name in TAGGING_TASKS:
        return tagging_task(arguments)
    if arguments.task_name in CHOICE_TASKS:
        return choice_task(arguments)
    _check(arguments)
    return TextClassification(_classification(arguments), arguments.label_scale)


def select_prediction(arguments: PredictArguments) -> FinetuningTask:
    """Reads the rows to predict. Raises InputError as `select_task`."""
    if arguments.task_name in OTHER_TASKS and arguments.test_file is None:
        raise InputError(f"--task_name {arguments.task_name} needs --test_file")
    if arguments.task_name in QUESTION_TASKS:
        return prediction_task(arguments.task_name, arguments.test_file, arguments)
    if arguments.task_name in TAGGING_TASKS:
        return words_to_predict(arguments.task_name, arguments.test_file, arguments)
    if arguments.task_name in CHOICE_TASKS:
        return choices_to_predict(arguments.task_name, arguments.test_file)
    return TextClassification(_to_predict(arguments))


def _check(arguments: FinetuneArguments) -> None:
    sources = (arguments.text_source, arguments.train_file, arguments.glue_dir, arguments.dataset_name)
    if sum(source is not None for source in sources) != 1:
        raise InputError("give one of --train_file, --glue_dir, --dataset_name and --text_source builtin")
    if (arguments.glue_dir is not None and arguments.task_name is None) or (
        arguments.task_name is not None and arguments.glue_dir is None and arguments.dataset_name is None
    ):
        raise InputError(
            f"--glue_dir and --task_name go together, unless the task is one of {', '.join(OTHER_TASKS)} or "
            f"--dataset_name is {HUB_NAMES[-1]}"
        )
    if arguments.squad_dir is not None:
        raise InputError("--squad_dir goes with --task_name squad or squad_v2")
    if arguments.tagging_dir is not None:
        raise InputError(f"--tagging_dir goes with --task_name {', '.join(TAGGING_TASKS)}")
    if arguments.validation_file is not None and arguments.train_file is None:
        raise InputError("--validation_file goes with --train_file")


def _classification(arguments: FinetuneArguments) -> Task:
    columns = Columns(arguments.sentence1_column, arguments.sentence2_column, arguments.label_column)
    regression = arguments.task_type == "regression"
    double = arguments.double_unordered
    if arguments.glue_dir:
        return glue_folder_task(arguments.glue_dir, arguments.task_name, double)
    if (name := _glue_on_the_hub(arguments)) is not None:
        return glue_hub_task(arguments.dataset_name, name, double)
    if arguments.text_source:
        task = builtin_library_task()
    elif arguments.dataset_name:
        task = hub_task(arguments.dataset_name, arguments.dataset_config_name, columns, regression)
    else:
        task = files_task(arguments.train_file, arguments.validation_file, columns, regression)
    return task.with_swapped_pairs() if double else task


def _to_predict(arguments: PredictArguments) -> Task:
    sources = (arguments.test_file, arguments.glue_dir, arguments.dataset_name)
    if sum(source is not None for source in sources) != 1:
        raise InputError("give one of --test_file, --glue_dir and --dataset_name")
    columns = Columns(arguments.sentence1_column, arguments.sentence2_column)
    if arguments.glue_dir:
        if arguments.task_name is None:
            raise InputError("--glue_dir needs --task_name")
        return glue_folder_to_predict(arguments.glue_dir, arguments.task_name)
    if arguments.test_file:
        if arguments.task_name:
            raise InputError(
                f"--task_name {arguments.task_name} goes with --glue_dir or --dataset_name {HUB_NAMES[-1]}"
            )
        return files_to_predict(arguments.test_file, columns)
    if (name := _glue_on_the_hub(arguments)) is not None:
        return glue_hub_to_predict(arguments.dataset_name, name)
    return hub_to_predict(arguments.dataset_name, arguments.dataset_config_name, columns)


def _glue_on_the_hub(arguments: TaskArguments) -> str | None:
    """The task of GLUE's that is asked of the hub, by either flag: its labels there have other names and orders."""
    if arguments.task_name is not None or arguments.dataset_name not in HUB_NAMES:
        return arguments.task_name
    return arguments.dataset_config_name
