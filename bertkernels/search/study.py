"""The study: every evaluation in an Optuna storage that any number of processes and machines share."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path as File

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import DBAPIError

from bertkernels.errors import InputError
from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import KILLED, RUNNING, Evaluation, Key, read_trial
from bertkernels.search.journal import open_journal
from bertkernels.search.process_identity import is_gone, this_process
from bertkernels.training.differences import differences

Parameters = dict[str, tuple[object, BaseDistribution]]

JOURNAL = "study.journal"
NOT_A_NUMBER = "fitness is not a number"
_SETTINGS = "settings"
_SECONDS_FOR_SETTINGS = 10.0


def open_storage(url: str | None, journal: File, tries: int = 5) -> BaseStorage:
    """The storage of that URL, or the journal file. Raises InputError where Optuna cannot open it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is None:
        return open_journal(journal)
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:  # whatever the database's driver raises
        if tries > 1 and isinstance(error, DBAPIError):
            time.sleep(0.5)  # two that make a new database's tables at once stand in each other's way
            return open_storage(url, journal, tries - 1)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"--storage {url}: {reason}") from error


def open_search_folder(folder: File, url: str | None, anew: bool) -> BaseStorage | None:
    """The storage of a search that is there, by its URL or as a journal in the folder; None where there is none yet.

    Raises InputError for a folder that holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file, expected a folder")
    there = url is not None or (folder / JOURNAL).is_file()
    if not there and not anew and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"--output_dir {folder} is not empty and holds no study: choose another")
    return open_storage(url, folder / JOURNAL) if there else None


class SearchStudy:
    """Evaluations of candidates in one study of a storage.

    An evaluation is reserved by the trial's creation, which gives it its number and makes its candidate known in one
    stroke.

    Args:
        parameters: of a path, a trial's parameters with their distributions, which are the same for all paths.
        key: of a path, what is the same for paths that are the same candidate; None: the path itself.
        settings: what makes evaluations comparable; kept in the study, and compared by everybody who joins.
        grace: seconds after which an evaluation on another machine is taken for dead that shows no sign of life.

    Raises:
        InputError: the study was begun with other settings; they are listed.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        settings: dict,
        parameters: Callable[[Path], Parameters],
        key: Callable[[Path], str] | None = None,
        grace: float = 120.0,
    ) -> None:
        self._storage, self._grace = storage, grace
        self._parameters, self._own_key = parameters, key
        self._beats: dict[int, tuple[float, float]] = {}  # by trial: its last sign of life, and when it was new here
        try:
            self._study = storage.create_new_study([StudyDirection.MAXIMIZE], name)
            storage.set_study_user_attr(self._study, _SETTINGS, settings)
        except DuplicatedStudyError:
            self._study = storage.get_study_id_from_name(name)
            self._check(name, settings)
        self.settings = settings

    def _check(self, name: str, settings: dict) -> None:
        known = self._known_settings()
        deadline = time.monotonic() + _SECONDS_FOR_SETTINGS
        while known is None and time.monotonic() < deadline:  # its creator has not come to write them
            time.sleep(0.1)
            known = self._known_settings()
        if known is None:  # or was killed between the two
            self._storage.set_study_user_attr(self._study, _SETTINGS, settings)
            return
        changes = list(differences(known, settings))
        if changes:
            listed = "".join(f"\n  {change}" for change in changes)
            raise InputError(
                f"study {name!r} was begun with other settings; go on with those, choose another --output_dir or "
                f"--study_name, or begin anew with --overwrite_output_dir:{listed}"
            )

    def _known_settings(self) -> dict | None:
        return self._storage.get_study_user_attrs(self._study).get(_SETTINGS)

    def note(self, key: str, value: object) -> None:
        """Keeps something beside the settings, that is not compared."""
        self._storage.set_study_user_attr(self._study, key, value)

    def noted(self, key: str) -> object:
        """What was kept under that key, None if nothing was."""
        return self._storage.get_study_user_attrs(self._study).get(key)

    def evaluations(self) -> list[Evaluation]:
        """All of them, of whatever state, by number."""
        return [read_trial(trial) for trial in self._storage.get_all_trials(self._study, deepcopy=False)]

    def begin(self, path: Path, origin: str, name: str | None = None) -> Evaluation:
        """Reserves a candidate for this process; the evaluation's number tells who was first."""
        trial_id = self._storage.create_new_trial(self._study, self._template(path, origin, name))
        return read_trial(self._storage.get_trial(trial_id))

    def key(self, path: Path) -> Key:
        """What is the same for paths that are the same candidate."""
        return path if self._own_key is None else self._own_key(path)

    def _template(self, path: Path, origin: str, name: str | None) -> FrozenTrial:
        parameters = self._parameters(path)
        attributes = {"path": list(path), "origin": origin, "worker": this_process(), "beat": time.time()}
        attributes |= {"name": name} if name else {}
        attributes |= {} if self._own_key is None else {"key": self._own_key(path)}
        return create_trial(
            state=TrialState.RUNNING,
            params={name: value for name, (value, _) in parameters.items()},
            distributions={name: distribution for name, (_, distribution) in parameters.items()},
            user_attrs=attributes,
        )

    def complete(self, evaluation: Evaluation, fitness: float, metrics: dict[str, float], seconds: float) -> None:
        """Records a result. A fitness that is not a number makes it a failure, which is never the best."""
        with suppress(UpdateFinishedTrialError):  # taken for dead meanwhile: another's result counts
            plain = {name: value for name, value in metrics.items() if math.isfinite(value)}
            self._storage.set_trial_user_attr(evaluation.trial_id, "metrics", plain)
            self._storage.set_trial_user_attr(evaluation.trial_id, "seconds", seconds)
            if not math.isfinite(fitness):
                self.fail(evaluation, NOT_A_NUMBER)
            else:
                self._storage.set_trial_state_values(evaluation.trial_id, TrialState.COMPLETE, [fitness])

    def fail(self, evaluation: Evaluation, why: str) -> None:
        """Records that there is no result, and why."""
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(evaluation.trial_id, "why", why)
            self._storage.set_trial_state_values(evaluation.trial_id, TrialState.FAIL)

    @contextmanager
    def alive(self, evaluation: Evaluation) -> Iterator[None]:
        """While entered, says from time to time that the evaluation goes on."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self._grace / 4):
                with suppress(UpdateFinishedTrialError):
                    self._storage.set_trial_user_attr(evaluation.trial_id, "beat", time.time())

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def bury_the_dead(self) -> int:
        """Marks evaluations whose process has gone as killed, so that they are done again; returns their number.

        On this machine that is seen at once. Of another's, a sign of life must have stayed the same for the grace
        period, by this machine's clock.
        """
        buried = 0
        for evaluation in self.evaluations():
            if evaluation.state == RUNNING and self._is_dead(evaluation):
                self.fail(evaluation, KILLED)
                buried += 1
        return buried

    def _is_dead(self, evaluation: Evaluation) -> bool:
        gone = is_gone(evaluation.worker)
        if gone is not None:
            return gone
        now = time.monotonic()
        beat, since = self._beats.get(evaluation.trial_id, (None, now))
        if beat != evaluation.beat:
            self._beats[evaluation.trial_id] = evaluation.beat, now
            return False
        return now - since > self._grace


def slot_parameters(kinds: Sequence[str], path: Path) -> Parameters:
    """A plan's kinds, slot by slot."""
    width = len(str(len(path)))
    distribution = CategoricalDistribution(tuple(kinds))
    return {f"slot {number:0{width}}": (kind, distribution) for number, kind in enumerate(path, 1)}


def noted_in(storage: BaseStorage, name: str, key: str) -> object:
    """What `SearchStudy.note` kept in a study; None where there is none of that name, or nothing was kept."""
    try:
        return storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get(key)
    except KeyError:
        return None


def delete_study(storage: BaseStorage, name: str) -> None:
    """Removes a study with all its evaluations, if it is there."""
    with suppress(KeyError):
        storage.delete_study(storage.get_study_id_from_name(name))
