"""EfficientBERT's whole search in one go: supernet, three stages, students; what is finished is not done again."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path as File

from bertkernels.data.cache import cached
from bertkernels.data.tokenizer import load_tokenizer
from bertkernels.errors import InputError
from bertkernels.models.genotype import Genotype, genotype_of, genotype_texts, read_genotype
from bertkernels.models.inheritance import inherited_student
from bertkernels.nn.expression_ffn import PLAIN_FFN
from bertkernels.search.ffn_report import GENOTYPE
from bertkernels.search.ffn_run import search_ffn
from bertkernels.search.ffn_space import expressions_of, gene, shapes_of
from bertkernels.training.distill import distill
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.distillation.teacher import load_encoder
from bertkernels.training.finished_run import finish
from bertkernels.training.output_folder import LAST
from bertkernels.training.results_file import write_json
from bertkernels.training.seeds import over_seeds, seed_folder
from bertkernels.training.training_arguments import FinetuneRunArguments

FOUND, PLAIN, LABELS = ARMS = ("found", "plain", "no distillation")
# flags that go to several steps, and those of each
_SHARED = ("run", "task", "text", "budget", "search")
_STEPS = ("supernet", "stage1", "stage2", "shared_text", "shared_task", "stage3", "student_text", "student")
_ON_TEXT, _ON_TASK = ("supernet", "shared_text", "student_text"), ("shared_task", "student")
SECTIONS = (*_SHARED, *_STEPS)
_WITHOUT_TEACHER = {
    **{f"{name}_weight": 0 for name in ("embedding", "hidden", "attention", "logits")},
    "label_weight": 1,
    "from_scratch": True,
}
_RECORD, _LOCK = "finished.json", ".lock"

Flags = dict[str, object]
ParseDistill = Callable[[Flags], tuple[DistillArguments, FinetuneRunArguments]]
ParseSearch = Callable[[Flags, list[str]], tuple]  # (flags, later ones as text); can be pickled


@dataclass(frozen=True)
class PipelineSettings:
    """What the file says.

    Attributes:
        output_dir: a folder inside for each step. teacher: of the task, also of text unless that names its own.
        sections: flags by section, see `SECTIONS`. num_seeds: runs of each student.
    """

    output_dir: str
    teacher: str
    sections: Mapping[str, Flags]
    num_seeds: int = 3


def read_settings(content: Mapping[str, object], file: str) -> PipelineSettings:
    """The settings in a file's content. Raises InputError naming what is missing or unknown."""
    known = ("output_dir", "teacher_model_name_or_path", "num_seeds", *SECTIONS)
    for name in content:
        if name not in known:
            raise InputError(f"{file}: unknown section {name!r}; known: {', '.join(known)}")
    for name in ("output_dir", "teacher_model_name_or_path", *SECTIONS):
        if name not in content and name not in ("run", "budget", "search"):
            raise InputError(f"{file}: {name} is missing")
    sections = {name: content.get(name) or {} for name in SECTIONS}
    for name, flags in sections.items():
        if not isinstance(flags, Mapping):
            raise InputError(f"{file}: {name} must hold flags, one value each, not {flags!r}")
    seeds = content.get("num_seeds", 3)
    if not isinstance(seeds, int) or seeds < 1:
        raise InputError(f"{file}: num_seeds must be a whole number from 1, not {seeds!r}")
    return PipelineSettings(str(content["output_dir"]), str(content["teacher_model_name_or_path"]), sections, seeds)


class Pipeline:
    """The steps of the search, each in a folder of its own, in order.

    supernet      text   all of it trains, by distillation
    stage1        task   expressions and shapes of candidates cut out of it
    stage2        task   expressions, with the shapes that stage 1 found
    shared_text   text   the supernet with those expressions; a random student trains each step
    shared_task   task   the same, with a head
    stage3        task   shapes, with these weights
    student_text  text   the found student, and a plain one of the same shapes, both cut out of the supernet
    student       task   these two; and the found one from random weights on labels alone

    Candidates and the shared weights are chosen by rows held out of the training rows (`search: held_out_samples`),
    students train on all of them and are evaluated on the task's own.

    Args:
        parse_distill, parse_search: make a step's arguments of its flags.

    Raises:
        InputError: flags that are unknown or have wrong values, in whichever step.
    """

    def __init__(self, settings: PipelineSettings, parse_distill: ParseDistill, parse_search: ParseSearch) -> None:
        self._settings, self._folder = settings, File(settings.output_dir)
        self._parse_distill, self._parse_search = parse_distill, parse_search
        steps = {name: partial(parse_distill, self._on_text(name)) for name in _ON_TEXT}
        steps |= {name: partial(parse_distill, self._on_task(name)) for name in _ON_TASK}
        steps |= {f"stage{stage}": partial(parse_search, self._of_search(stage), []) for stage in (1, 2, 3)}
        for name, parse in steps.items():
            try:
                parse()
            except InputError as error:
                raise InputError(f"{name}: {error}") from None

    def run(self) -> dict:
        """Does what is left to do; returns students' results by name, and what was found."""
        with _alone(self._folder):
            supernet = self._distil(self._on_text("supernet"), "supernet")
            first = self._search(1, supernet)
            second = self._search(2, supernet, first)
            shared = self._with_expressions(supernet, second)
            for name, flags in (("shared_text", self._on_text), ("shared_task", self._on_task)):
                given = flags(name) | self._settings.sections["budget"] | {"sample_shapes": True}
                held_out = self._settings.sections["search"].get("held_out_samples")
                if name == "shared_task" and held_out is not None:
                    given["held_out_samples"] = held_out
                shared = self._distil(given | {"model_name_or_path": shared}, name)
            third = self._search(3, shared, second)
            found = read_genotype(str(third / GENOTYPE))
            plain = tuple(gene(PLAIN_FFN, shape) for shape in shapes_of(found))
            students = {
                FOUND: self._student(FOUND, found, supernet),
                PLAIN: self._student(PLAIN, plain, supernet),
                LABELS: self._student(LABELS, found, supernet),
            }
        return {"genotype": genotype_texts(found), "plain_genotype": genotype_texts(plain), "students": students}

    def _student(self, arm: str, genotype: Genotype, supernet: File) -> dict:
        place = self._folder / "students" / arm.replace(" ", "_")

        def build(target: File) -> None:
            _save(inherited_student(load_encoder(str(supernet), "supernet"), genotype), supernet, target)

        student = cached(place / "start", build)
        flags = self._on_task("student")
        if arm == LABELS:
            flags |= _WITHOUT_TEACHER
        else:
            given = self._on_text("student_text") | {"model_name_or_path": student}
            student = self._distil(given, place.relative_to(self._folder) / "text")
        results = {}
        for seed in self._seeds():
            folder = place.relative_to(self._folder) / seed_folder(seed)
            self._distil(flags | {"model_name_or_path": student, "seed": seed}, folder)
            results[seed] = json.loads((self._folder / folder / _RECORD).read_text(encoding="utf-8"))["results"]
        summary = over_seeds(results)
        scores = {str(seed): result.get("main_score") for seed, result in results.items()}
        size = sum(x.numel() for x in load_encoder(str(student), "student").parameters())
        return {"parameters": size, "scores": scores, **summary}

    def _seeds(self) -> Sequence[int]:
        first = int(self._settings.sections["run"].get("seed", 42))
        return range(first, first + self._settings.num_seeds)

    def _distil(self, flags: Flags, name: str | File) -> File:
        folder = self._folder / name
        arguments, run = self._parse_distill(flags | {"output_dir": folder})
        run.resume_from_checkpoint = LAST
        print(f"== {name}", flush=True)
        finish(arguments, run, distill)
        return folder

    def _search(self, stage: int, supernet: File, before: File | None = None) -> File:
        folder = self._folder / f"stage{stage}"
        flags = self._of_search(stage) | {"supernet": supernet, "output_dir": folder}
        if before is not None:
            flags["genotype"] = before / GENOTYPE
        plain = {name: str(value) for name, value in flags.items()}
        record = folder / _RECORD
        if record.is_file():
            found = json.loads(record.read_text(encoding="utf-8"))
            for name in sorted({*found, *plain}):
                if found.get(name) != plain.get(name):
                    raise InputError(
                        f"{folder} is finished, with --{name} {found.get(name)} and not {plain.get(name)}: choose "
                        "another output_dir"
                    )
            return folder
        print(f"== stage{stage}", flush=True)
        report = search_ffn(partial(self._parse_search, flags))
        if report["found"] is None:
            raise InputError(f"{folder}: no candidate could be measured, see {folder}/evaluations.jsonl")
        write_json(record, plain)
        return folder

    def _with_expressions(self, supernet: File, search: File) -> File:
        """The supernet with the expressions that a search found in place of its own, and all its weights."""

        def build(target: File) -> None:
            model = load_encoder(str(supernet), "supernet")
            expressions = expressions_of(read_genotype(str(search / GENOTYPE)))
            whole = shapes_of(genotype_of(model.config))
            _save(inherited_student(model, tuple(map(gene, expressions, whole))), supernet, target)

        return cached(self._folder / "shared_start", build)

    def _on_text(self, name: str) -> Flags:
        return self._flags("run", "text", name)

    def _on_task(self, name: str) -> Flags:
        return self._flags("run", "task", name)

    def _flags(self, *sections: str) -> Flags:
        return _joined(
            {"output_dir": self._folder, "teacher_model_name_or_path": self._settings.teacher},
            *(self._settings.sections[name] for name in sections),
        )

    def _of_search(self, stage: int) -> Flags:
        """Flags of a stage; those of text only where its candidates train on text."""
        sections = self._settings.sections
        flags = self._flags("run", "task", "budget", "search", f"stage{stage}") | {"space": "ffn", "stage": stage}
        if stage == 3:
            del flags["teacher_model_name_or_path"]
        elif flags.get("text_steps"):
            flags["prepared_dir"] = sections["text"].get("prepared_dir")
            teacher = sections["text"].get("teacher_model_name_or_path")
            if teacher is not None:
                flags["text_teacher_model_name_or_path"] = teacher
        return flags


def _joined(*parts: Mapping[str, object]) -> Flags:
    return {name: value for part in parts for name, value in part.items()}


def _save(model, tokenizer: File, folder: File) -> None:
    model.save_pretrained(folder)
    load_tokenizer(str(tokenizer)).save_pretrained(folder)


@contextmanager
def _alone(folder: File) -> Iterator[None]:
    """Raises InputError where another process works on this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(f"another process works on {folder}") from None
    try:
        yield
    finally:
        os.close(descriptor)  # which unlocks
