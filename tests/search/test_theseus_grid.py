"""A grid over rate and schedule: every point once, kept in a study, and the best of them."""

import optuna
import pytest

from bertkernels.errors import InputError
from bertkernels.search.grid_arguments import GridArguments
from bertkernels.search.journal import open_journal
from bertkernels.search.theseus_grid import JOURNAL, STUDY, grid_points, search_grid
from bertkernels.training.finetuned_folder import finetuned_folder

_GRID = GridArguments(grid_learning_rates=[1e-5, 2e-5], grid_replacing_rates=[0.1, 0.5], grid_steps=[10])


def test_the_published_grid():
    points = grid_points(GridArguments())
    assert len(points) == 16
    assert points[0].k == pytest.approx(0.9 / 1000)
    assert len({point.folder for point in points}) == 16


def test_cut_short_and_resumed(tmp_path):
    ran = []

    def run_point(flags, folder):
        ran.append(folder.name)
        if len(ran) == 3:
            raise KeyboardInterrupt
        given = dict(zip(flags[::2], flags[1::2], strict=True))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
        score = float(given["--replacing_rate"]) + 1000 * float(given["--learning_rate"])
        return {"main_score": score, "main_metric": "accuracy"}

    with pytest.raises(KeyboardInterrupt):
        search_grid(_GRID, tmp_path, run_point, first=True, anew=False)
    results = search_grid(_GRID, tmp_path, run_point, first=True, anew=False)
    assert results["best_model"] == "rate-2e-05_b-0.5_steps-10" and results["main_score"] == pytest.approx(0.52)
    study = optuna.load_study(study_name=STUDY, storage=open_journal(tmp_path / JOURNAL))
    assert [trial.params for trial in study.trials] == [
        {"learning_rate": rate, "replacing_rate": base, "steps": 10} for rate in (1e-5, 2e-5) for base in (0.1, 0.5)
    ]
    assert study.best_trial.user_attrs["folder"] == results["best_model"]
    assert finetuned_folder(str(tmp_path), None) == str(tmp_path / results["best_model"])
    rows = (tmp_path / "grid.md").read_text().splitlines()
    assert rows[2] == "| 2e-05 | 0.5 | 10 | 0.05 | 0.5200 |"

    search_grid(_GRID, tmp_path, run_point, first=True, anew=True)
    study = optuna.load_study(study_name=STUDY, storage=open_journal(tmp_path / JOURNAL))
    assert len(study.trials) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid_steps": []}, "--grid_steps must be different values"),
        ({"grid_steps": [5, 5]}, "--grid_steps must be different values"),
        ({"grid_learning_rates": [0.0]}, "--grid_learning_rates must be above 0"),
        ({"grid_replacing_rates": [1.5]}, "--grid_replacing_rates must be at most 1"),
    ],
)
def test_bad_lists(changes, said):
    with pytest.raises(InputError, match=said):
        grid_points(GridArguments(**changes))


def test_runs_without_an_evaluation(tmp_path):
    with pytest.raises(InputError, match="--grid needs evaluation rows"):
        search_grid(_GRID, tmp_path, lambda flags, folder: {}, first=True, anew=False)
