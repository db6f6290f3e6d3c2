"""Module replacing beside what it should beat: methods × tasks × seeds from one folder of predecessors.

python benchmarks/theseus.py --predecessor_dir DIR --glue_dir GLUE --output_dir OUT [--tasks SST-2 MRPC]
    [--successor_blocks 3] [--seeds 42 43 44] [--methods theseus finetuned …] [--replacing_share 0.5]
    [--task_flags SST-2 "--num_train_epochs 2"] [-- flags of every run, as `bertkernels theseus` takes them]
python benchmarks/theseus.py --report --output_dir OUT

DIR holds a predecessor for each task, as `bertkernels finetune --task_name SST-2,MRPC` writes them. All methods begin
with the same weights, the predecessor's first blocks, and take as many steps. The same command again goes on where it
was cut short. Each run is a line in OUT/runs.jsonl; OUT/report.md has the table.
"""

import argparse
import json
import math
import shlex
import shutil
import statistics
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from bertkernels.bench.timing import milliseconds
from bertkernels.cli.arguments import parse_arguments
from bertkernels.training.checkpoints import checkpoints
from bertkernels.training.finetune import read_task
from bertkernels.training.finished_run import finish
from bertkernels.training.output_folder import LAST
from bertkernels.training.theseus.arguments import TheseusArguments, TheseusRunArguments
from bertkernels.training.theseus.report import REPORT
from bertkernels.training.theseus.run import theseus

RUNS, REPORT_TEXT = "runs.jsonl", "report.md"
_ALL = ["--replacing_rate", "1", "--train_head", "--train_embeddings"]  # the successor alone, whole, from the start
# {steps}: those in which modules are replaced; {blocks}: of the successor
METHODS: dict[str, tuple[str, list[str]]] = {
    "theseus": (
        "module replacing, rate rising linearly",
        ["--scheduler_type", "linear", "--replacing_rate", "0.3", "--steps_for_replacing", "{steps}"],
    ),
    "constant": (
        "module replacing at a constant rate",
        ["--scheduler_type", "constant", "--replacing_rate", "0.5", "--steps_for_replacing", "{steps}"],
    ),
    "anti_curriculum": (
        "module replacing, rate falling",
        ["--scheduler_type", "anti_curriculum", "--replacing_rate", "0.3", "--steps_for_replacing", "{steps}"],
    ),
    "finetuned": ("the first blocks fine-tuned", _ALL),
    "distilled": (
        "vanilla distillation into the first blocks",
        [*_ALL, "--distillation_weight", "0.5", "--distillation_temperature", "2"],
    ),
    "convbert": (
        "module replacing by ConvBERT's blocks",
        [
            *("--scheduler_type", "linear", "--replacing_rate", "0.3", "--steps_for_replacing", "{steps}"),
            *("--successor_plan", "{blocks}*(mixed ffn)"),
        ],
    ),
}


def run_all(arguments: argparse.Namespace) -> None:
    """Does the runs that are not in the file yet, a seed of all methods before the next seed."""
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    done = {(run["task"], run["method"], run["seed"]) for run in read_runs(folder)}
    extra = {task: shlex.split(flags) for task, flags in arguments.task_flags}
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for method in arguments.methods:
                if (task, method, seed) not in done:
                    run = _run(arguments, folder, task, method, seed, [*arguments.flags, *extra.get(task, [])])
                    with open(folder / RUNS, "a", encoding="utf-8") as file:
                        file.write(json.dumps(run) + "\n")


def _run(
    arguments: argparse.Namespace, folder: Path, task: str, method: str, seed: int, flags: list[str]
) -> dict[str, object]:
    place = folder / task / method / f"seed-{seed}"
    own = Path(arguments.predecessor_dir, task)
    common = [
        *("--model_name_or_path", str(own if own.is_dir() else arguments.predecessor_dir)),
        *("--glue_dir", arguments.glue_dir, "--task_name", task, "--output_dir", str(place), "--seed", str(seed)),
        *("--successor_blocks", str(arguments.successor_blocks), "--resume_from_checkpoint", LAST),
    ]
    if method != "theseus":
        common += ["--no_module_table"]
    steps = _steps([*common, *flags, "--replacing_rate", "1"])
    replaced = max(1, round(arguments.replacing_share * steps))
    own_flags = [flag.format(steps=replaced, blocks=arguments.successor_blocks) for flag in METHODS[method][1]]
    print(f"== {task} {method} seed {seed}: {steps} steps, modules replaced in {replaced}", flush=True)
    results = finish(*_parse([*common, *own_flags, *flags]), partial(theseus, measure=milliseconds))
    for checkpoint in checkpoints(place):
        shutil.rmtree(checkpoint)
    report = json.loads((place / REPORT).read_text(encoding="utf-8"))
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "metric": results["main_metric"],
        "score": results["main_score"],
        "predecessor_score": report["scores"][0]["score"] if report["scores"] else None,
        "speedup": report.get("speedup"),
        "parameters": report["successor"]["parameters"],
        "predecessor_parameters": report["predecessor"]["parameters"],
        "state_mb": report["state_mb"],
        "steps": steps,
        "replacing_steps": replaced,
        "flags": [*own_flags, *flags],
    }


def _parse(argv: list[str]) -> tuple[TheseusArguments, TheseusRunArguments]:
    return parse_arguments("theseus", __doc__, argv, TheseusArguments, TheseusRunArguments)


def _steps(argv: list[str]) -> int:
    """Of a run of one process."""
    arguments, run = _parse(argv)
    if run.max_steps > 0:
        return run.max_steps
    rows = len(read_task(arguments, run).train)
    if arguments.max_train_samples is not None:
        rows = min(rows, arguments.max_train_samples)
    batches = math.ceil(rows / run.train_batch_size)
    return math.ceil(run.num_train_epochs * math.ceil(batches / run.gradient_accumulation_steps))


def read_runs(folder: Path) -> list[dict]:
    """Those that are done."""
    file = folder / RUNS
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def report(folder: Path) -> str:
    """The table as Markdown, which is written too."""
    runs = read_runs(folder)
    tasks = list(dict.fromkeys(run["task"] for run in runs))
    metrics = {run["task"]: run["metric"] for run in runs}
    lines = [
        f"| | {' | '.join(f'{task}, {metrics[task]}' for task in tasks)} | mean | parameters | speed-up | state, MB |",
        f"| --- | {' | '.join('---:' for _ in tasks)} | ---: | ---: | ---: | ---: |",
    ]
    before = {task: _median(_of(runs, "predecessor_score", task=task)) for task in tasks}
    if all(score is not None for score in before.values()):
        cells = [_percent(score) for score in before.values()]
        lines.append(
            f"| predecessor | {' | '.join(cells)} | {_percent(statistics.mean(before.values()))} | "
            f"{runs[0]['predecessor_parameters']:,} | | |"
        )
    for method in (method for method in METHODS if _of(runs, "score", method=method)):
        own = [_of(runs, "score", method=method, task=task) for task in tasks]
        cells = [_spread(scores) if scores else "–" for scores in own]
        mean = _percent(statistics.mean(map(statistics.median, own))) if all(own) else "–"
        speed = _median(_of(runs, "speedup", method=method))
        lines.append(
            f"| {METHODS[method][0]} | {' | '.join(cells)} | {mean} | {_of(runs, 'parameters', method=method)[0]:,} | "
            f"{'–' if speed is None else f'{speed:.2f}×'} | {_median(_of(runs, 'state_mb', method=method)):.1f} |"
        )
    seeds = sorted({run["seed"] for run in runs})
    steps = ", ".join(f"{task} {_of(runs, 'steps', task=task)[0]:,}" for task in tasks)
    lines += [
        "",
        f"Medians over seeds {', '.join(map(str, seeds))}, lowest and highest in brackets. Steps: {steps}.",
        "",
    ]
    text = "\n".join(lines)
    (folder / REPORT_TEXT).write_text(text, encoding="utf-8")
    return text


def _of(runs: Iterable[dict], field: str, **chosen: object) -> list:
    found = (run for run in runs if all(run[name] == value for name, value in chosen.items()))
    return [run[field] for run in found if run[field] is not None]


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _percent(score: float) -> str:
    return f"{100 * score:.1f}"


def _spread(scores: list[float]) -> str:
    return f"{_percent(statistics.median(scores))} ({_percent(min(scores))}–{_percent(max(scores))})"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--predecessor_dir", help="a folder for each task, or one model")
    parser.add_argument("--glue_dir")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--tasks", nargs="+", default=["SST-2", "MRPC"])
    parser.add_argument("--successor_blocks", type=int, default=3)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--replacing_share", type=float, default=0.5, help="of the steps, before the rate is 1")
    parser.add_argument("--task_flags", nargs=2, action="append", default=[], metavar=("TASK", "FLAGS"))
    parser.add_argument("--report", action="store_true", help="only write the table")
    parser.add_argument("flags", nargs="*", help="of every run")
    arguments = parser.parse_args(argv)
    if not arguments.report:
        if arguments.predecessor_dir is None or arguments.glue_dir is None:
            parser.error("--predecessor_dir and --glue_dir are needed")
        run_all(arguments)
    print(report(Path(arguments.output_dir)))


if __name__ == "__main__":
    main()
