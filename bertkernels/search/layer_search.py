"""A search as its flags describe it: space, limits, study and what each worker needs of them."""

from dataclasses import asdict
from functools import partial
from pathlib import Path as File

import numpy as np

from bertkernels.data.cache import file_digest
from bertkernels.data.prepared.folder import open_prepared
from bertkernels.models.electra import encoder_config
from bertkernels.models.supernet import Path, path_of, plan_of
from bertkernels.search.claims import Budget, Claims
from bertkernels.search.evaluation import RANDOM_ORDER
from bertkernels.search.feasible import FeasiblePlans
from bertkernels.search.fitness import check_held_out, check_metric, read_supernet
from bertkernels.search.genetic_sampler import GeneticSampler
from bertkernels.search.limits import Figures, Limits, parse_counts
from bertkernels.search.orders import named_orders
from bertkernels.search.plan_figures import kind_figures, measure_latencies
from bertkernels.search.search_arguments import SearchArguments, check_arguments
from bertkernels.search.study import (
    JOURNAL,
    SearchStudy,
    delete_study,
    noted_in,
    open_search_folder,
    open_storage,
    slot_parameters,
)
from bertkernels.training.training_arguments import PretrainRunArguments

_LATENCIES = "latencies_ms"


class LayerSearch:
    """Everything but the evaluating: made alike, from the same flags, by the command and by each of its workers.

    Args:
        anew: delete a study that is there.

    Raises:
        InputError: flags, supernet or text do not fit, no plan keeps within the limits, or the study that is there was
            begun with other settings. Before anything is written.
    """

    def __init__(self, arguments: SearchArguments, anew: bool = False) -> None:
        check_arguments(arguments)
        self.arguments = arguments
        self.objective, self.config = read_supernet(arguments.supernet)
        self.prepared = open_prepared(arguments.prepared_dir)
        check_held_out(self.prepared, self.config)
        self.metric = check_metric(arguments.fitness, self.objective, self.config)
        self.encoder = encoder_config(self.config)
        self.kinds = tuple(self.encoder.supernet_kinds)
        self.slots = len(path_of(self.config, self.encoder.parsed_plan))
        self.limits = Limits(
            arguments.max_parameters,
            arguments.max_flops,
            arguments.max_latency_ms,
            parse_counts(arguments.counts, self.kinds, self.slots),
        )
        self._open(File(arguments.output_dir), anew)
        genetics = arguments.genetics
        compared = named_orders(self.kinds, self.slots) if arguments.named_orders else {}
        budget = Budget(arguments.evaluations, genetics.population, compared | self._random_orders())
        self.claims = Claims(self.study, GeneticSampler(self.plans, genetics, arguments.seed), budget)
        self.budget = budget

    def _open(self, folder: File, anew: bool) -> None:
        """Finds what is feasible, then opens or makes the study: an impossible search leaves nothing behind."""
        name = self.arguments.study_name
        storage = open_search_folder(folder, self.arguments.storage, anew)
        begun = storage is not None and not anew
        latencies = noted_in(storage, name, _LATENCIES) if begun else None
        if latencies is None and self.limits.max_latency_ms is not None:
            latencies = self._measure()
        self.plans = self._feasible(latencies)
        if storage is None:
            storage = open_storage(None, folder / JOURNAL)
        if anew:
            delete_study(storage, name)
        parameters = partial(slot_parameters, self.kinds)
        self.study = SearchStudy(storage, name, self._settings(), parameters, grace=self.arguments.grace_seconds)
        if self.study.noted(_LATENCIES) is None:
            self.study.note(_LATENCIES, latencies)
        self.plans = self._feasible(self.study.noted(_LATENCIES))  # another may have been faster to measure

    def plan(self, path: Path) -> str:
        """The text of a path's plan, in blocks as the supernet's."""
        return str(plan_of(self.config, path))

    def figures(self, path: Path) -> Figures:
        """What a path's plan costs."""
        return self.plans.figures_of(path)

    def _feasible(self, latencies: dict[str, float] | None) -> FeasiblePlans:
        figures = kind_figures(self.encoder, self.prepared.max_length, latencies)
        return FeasiblePlans(self.kinds, self.slots, self.limits, figures)

    def _measure(self) -> dict[str, float]:
        device = PretrainRunArguments(
            output_dir=self.arguments.output_dir, use_cpu=self.arguments.use_cpu, report_to="none"
        ).device.type
        return measure_latencies(self.encoder, self.prepared.max_length, self.arguments.latency_batch, device)

    def _random_orders(self) -> dict[str, Path]:
        """As many different ones as there are, up to what is asked for."""
        rng = np.random.default_rng((self.arguments.seed, 1))
        orders: dict[Path, None] = {}
        while len(orders) < min(self.arguments.random_orders, self.plans.size):
            orders.setdefault(self.plans.random(rng))
        return {f"{RANDOM_ORDER} {number}": path for number, path in enumerate(orders, 1)}

    def _settings(self) -> dict:
        """What makes evaluations comparable and the evolution one, as plain data."""
        arguments = self.arguments
        return {
            "space": arguments.space,
            "supernet": file_digest(File(arguments.supernet, "model.safetensors")),
            "plan": self.encoder.plan,
            "kinds": list(self.kinds),
            "text": self.prepared.manifest["fingerprint"],
            "fitness": self.metric,
            "fitness_examples": arguments.fitness_examples,
            "limits": {
                "max_parameters": arguments.max_parameters,
                "max_flops": arguments.max_flops,
                "max_latency_ms": arguments.max_latency_ms,
                "counts": {kind: list(span) for kind, span in sorted(self.limits.counts.items())},
            },
            "genetics": asdict(arguments.genetics),
            "random_orders": arguments.random_orders,
            "named_orders": arguments.named_orders,
            "seed": arguments.seed,
        }
