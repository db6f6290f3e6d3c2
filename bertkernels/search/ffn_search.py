"""A search over feed-forward layers as its flags describe it: space, study and what each worker needs of them."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, replace
from functools import lru_cache
from pathlib import Path as File

import numpy as np
from optuna.distributions import IntDistribution
from transformers import PreTrainedModel

from bertkernels.data.cache import file_digest, fingerprint
from bertkernels.data.prepared.folder import open_prepared
from bertkernels.errors import InputError
from bertkernels.models.cost import forward_flops
from bertkernels.models.genotype import parse_genotype, read_genotype
from bertkernels.models.inheritance import inherited_student, student_config
from bertkernels.models.supernet import Path
from bertkernels.nn.expressions import MOST
from bertkernels.search.claims import Budget, Claims
from bertkernels.search.ffn_arguments import CHANCE, GENETIC, check_ffn_arguments
from bertkernels.search.ffn_fitness import Flags, SharedFitness, TrainedFitness
from bertkernels.search.ffn_space import SHAPES, FfnSpace, shapes_of
from bertkernels.search.first_candidates import FirstCandidates, RandomSampler
from bertkernels.search.genetic_sampler import GeneticSampler
from bertkernels.search.limits import Figures
from bertkernels.search.partition_sampler import SpacePartition
from bertkernels.search.process_identity import this_process
from bertkernels.search.space import Sampler
from bertkernels.search.study import JOURNAL, Parameters, SearchStudy, delete_study, open_search_folder, open_storage
from bertkernels.training.distill import check_distillation
from bertkernels.training.distillation.roles import check_models
from bertkernels.training.distillation.teacher import load_encoder, model_folder
from bertkernels.training.distillation.teacher_logits import rows_digest
from bertkernels.training.finetune import TaskData, encode_task, read_task
from bertkernels.training.finetuned_folder import finetuned_folder
from bertkernels.training.finetuning_model import finetuned_model
from bertkernels.training.multi_task.model import check_same_encoder, share_encoder
from bertkernels.training.multi_task.run import chosen_tasks
from bertkernels.training.multi_task.trainer import AVERAGE, named_splits

SCRATCH, LOG = "scratch", "candidates.log"
_NOT_COMPARED = {
    *("output_dir", "logging_dir", "overwrite_output_dir", "resume_from_checkpoint", "disable_tqdm", "run_name"),
    *("use_cpu", "dataloader_num_workers", "preprocessing_num_workers", "report_to", "logging_steps", "local_rank"),
    "dataloader_pin_memory",
    # compared by content
    *("teacher_model_name_or_path", "prepared_dir", "glue_dir", "squad_dir", "train_file", "validation_file", "seed"),
    *("min_parameters", "max_parameters", "counted_projection", "model_name_or_path", "save_strategy", "eval_strategy"),
}


class FfnSearch:
    """Everything but the evaluating: made alike, from the same flags, by the command and by each of its workers.

    Args:
        flags: the command's, called without more.
        anew: delete a study that is there.
        check_teacher: look whether candidates can be compared with it, which takes loading it.

    Raises:
        InputError: flags, supernet, genotype, task or text do not fit, nothing keeps within the budget, or the study
            that is there was begun with other settings. Before anything is written.
    """

    def __init__(self, flags: Flags, anew: bool = False, check_teacher: bool = False) -> None:
        self.flags = flags
        self.arguments, self.distillation, self.run = flags([])
        check_ffn_arguments(self.arguments, self.distillation.prepared_dir)
        self._check_distillation()
        self.prepared = (
            None if self.distillation.prepared_dir is None else open_prepared(self.distillation.prepared_dir)
        )
        self.supernets = self._supernets()
        self.supernet = load_encoder(next(iter(self.supernets.values())), "--supernet")
        genotype = None if self.arguments.genotype is None else read_genotype(self.arguments.genotype)
        self.space = FfnSpace(
            self.supernet.config,
            self.arguments.stage,
            genotype,
            self.distillation.min_parameters,
            self.distillation.max_parameters,
            self.distillation.counted_projection,
        )
        self.tasks = {name: self._read_data(name, folder) for name, folder in self.supernets.items()}
        self.data = next(iter(self.tasks.values()))
        self.metric = AVERAGE if self.distillation.multi_task else self.data.task.metric
        if check_teacher:
            teacher = load_encoder(self.teacher_folder(), "--teacher_model_name_or_path")
            check_models(self.distillation, inherited_student(self.supernet, parse_genotype(self.example)), teacher)
        sampler, generation = self._sampler()
        self.study = self._open(File(self.run.output_dir), anew)
        self.budget = Budget(self.arguments.evaluations, generation, {})
        first = FirstCandidates(self.space, self.space.starts, sampler)
        self.claims = Claims(self.study, first, self.budget)
        self.figures, self.plan = lru_cache(None)(self._figures), lru_cache(None)(self._plan)  # asked again and again

    @property
    def example(self) -> Path:
        """A candidate."""
        return self.space.starts[0] if self.space.starts else self.space.random(np.random.default_rng(self.run.seed))

    def models(self) -> dict[str, PreTrainedModel]:
        """What the found model is cut out of: the supernet, in stage 3 with its head; of several tasks with each one's,
        by name, else under an empty one."""
        return self._models_with_heads() if self.arguments.stage == SHAPES else {"": self.supernet}

    def fitness(self) -> TrainedFitness | SharedFitness:
        """What a worker measures candidates with."""
        if self.arguments.stage == SHAPES:
            return SharedFitness(self._models_with_heads(), self.tasks, self.run)
        process, folder = this_process(), File(self.run.output_dir)
        place = folder / SCRATCH / f"{process['machine'].split()[0]}-{process['pid']}"
        return TrainedFitness(self.supernet, self.data.tokenizer, self.flags, place, folder / LOG)

    def _plan(self, path: Path) -> str:
        return student_config(self.supernet.config, parse_genotype(path)).plan

    def _supernets(self) -> dict[str, str]:
        """The supernet's folder; of several tasks each one's, by name, else under an empty one."""
        if not self.distillation.multi_task:
            return {"": self.arguments.supernet}
        return {name: finetuned_folder(self.arguments.supernet, name) for name in chosen_tasks(self.distillation)}

    def _check_distillation(self) -> None:
        if self.arguments.stage == SHAPES:
            if self.distillation.teacher_model_name_or_path is not None:
                raise InputError("--teacher_model_name_or_path is of stages 1 and 2: stage 3 trains nothing")
            return
        if self.distillation.multi_task:
            raise InputError("--multi_task is of stage 3: candidates of stages 1 and 2 train on one task")
        asked = replace(self.distillation, model_name_or_path=self.arguments.supernet, prepared_dir=None)
        check_distillation(asked, self.run)
        if self.distillation.sample_shapes:
            raise InputError("--sample_shapes is for training a supernet: candidates are no supernets")

    def _read_data(self, name: str, supernet: str) -> TaskData:
        """The rows of one of several tasks by its name, with an empty one of the only task."""
        flags = replace(self.distillation, task_name=name) if name else self.distillation
        task = read_task(flags, self.run)
        if task.train is None or not (task.evaluation or self.distillation.held_out_samples):
            raise InputError(
                f"{task.name} has no rows with labels to evaluate on: add --held_out_samples or --validation_file"
            )
        source = supernet
        if self.arguments.stage == SHAPES:
            task.adopt(finetuned_model(task.auto_model, source).config)
        else:
            source = self.teacher_folder()
        return encode_task(task, flags, self.run, source)

    def teacher_folder(self) -> str:
        """The task's teacher."""
        name = finetuned_folder(self.distillation.teacher_model_name_or_path, self.distillation.task_name)
        return model_folder(name, "--teacher_model_name_or_path")

    def _models_with_heads(self) -> dict[str, PreTrainedModel]:
        """The supernet with each task's head: one encoder."""
        models = {
            name: finetuned_model(self.tasks[name].task.auto_model, folder) for name, folder in self.supernets.items()
        }
        check_same_encoder(models, self.arguments.supernet)
        share_encoder(models)
        return models

    def _sampler(self) -> tuple[Sampler, int]:
        """The sampler, and how many candidates it proposes before it looks at results again."""
        arguments, seed = self.arguments, self.run.seed
        if arguments.sampler == CHANCE:
            return RandomSampler(self.space, seed), arguments.population
        if arguments.sampler == GENETIC:
            return GeneticSampler(self.space, arguments.genetics, seed), arguments.population
        return SpacePartition(self.space, arguments.partition, seed), arguments.refit_interval

    def _open(self, folder: File, anew: bool) -> SearchStudy:
        storage = open_search_folder(folder, self.arguments.storage, anew) or open_storage(None, folder / JOURNAL)
        if anew:
            delete_study(storage, self.arguments.study_name)
        grace = self.arguments.grace_seconds
        name = self.arguments.study_name
        return SearchStudy(storage, name, self._settings(), shape_parameters, self.space.key, grace)

    def _figures(self, path: Path) -> Figures:
        genotype = parse_genotype(path)
        flops = forward_flops(student_config(self.supernet.config, genotype), self.data.length)
        return Figures(self.space.shapes.parameters(shapes_of(genotype)), flops)

    def _settings(self) -> dict:
        """What makes evaluations comparable and the search one, as plain data."""
        arguments, distillation = self.arguments, self.distillation
        weights = [_weights(folder) for folder in self.supernets.values()]
        sampler: dict = {"name": arguments.sampler}
        if arguments.sampler == GENETIC:
            sampler |= asdict(arguments.genetics)
        elif arguments.sampler != CHANCE:
            sampler |= asdict(arguments.partition)
        settings = {
            "space": arguments.space,
            "stage": arguments.stage,
            "supernet": weights[0] if len(weights) == 1 else fingerprint(weights),
            "genotype": None if self.space.given is None else list(self.space.given),
            "budget": {
                "min_parameters": distillation.min_parameters,
                "max_parameters": distillation.max_parameters,
                "counted_projection": distillation.counted_projection,
            },
            "sampler": sampler,
            "task": ", ".join(data.task.name for data in self.tasks.values()),
            "fitness": self.metric,
            "rows": {
                split: rows_digest(rows.features)
                for name, data in self.tasks.items()
                for split, rows in (named_splits(name, data) if name else data.evaluation).items()
            },
            "seed": self.run.seed,
        }
        if arguments.stage == SHAPES:
            return settings
        text = None
        if self.prepared is not None:
            teacher = arguments.text_teacher_model_name_or_path
            text = {
                "examples": self.prepared.manifest["fingerprint"],
                "steps": arguments.text_steps,
                "learning_rate": arguments.text_learning_rate,
                "batch_size": arguments.text_batch_size,
                "teacher": None
                if teacher is None
                else _weights(model_folder(teacher, "--text_teacher_model_name_or_path")),
            }
        return settings | {
            "teacher": _weights(self.teacher_folder()),
            "training_rows": rows_digest(self.data.train.features),
            "text": text,
            "training": _given(distillation) | _given(self.run),
        }


def shape_parameters(path: Path) -> Parameters:
    """Of a genotype's blocks how many layers are stacked, and what share of the width they have."""
    distribution, found = IntDistribution(1, MOST), {}
    for number, (stack, ratio) in enumerate(shapes_of(parse_genotype(path)), 1):
        found[f"block {number:02} layers"] = stack, distribution
        found[f"block {number:02} share"] = ratio, distribution
    return found


def _given(arguments: object) -> Mapping[str, str]:
    """The flags that are not at their defaults, and matter."""
    found = {}
    for field in fields(arguments):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        value = getattr(arguments, field.name)
        if field.init and field.name not in _NOT_COMPARED and str(value) != str(default):
            found[field.name] = str(value)
    return found


def _weights(folder: str) -> str:
    """A digest of a model's files of weights."""
    files = sorted(path for path in File(folder).iterdir() if path.suffix in (".safetensors", ".bin"))
    return fingerprint([file_digest(path) for path in files if not path.name.startswith("distillation_")])
