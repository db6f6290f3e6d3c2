"""How linear the parts of each block are, by probes on held-out tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bertkernels.analysis.capture import Place
from bertkernels.analysis.experiments.block_ranges import read_range
from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.experiments.sites import chosen_sites
from bertkernels.analysis.jobs import MEASURED, Job, Trial
from bertkernels.analysis.site_linearity import site_linearity
from bertkernels.analysis.trained_probe import KINDS, LOSSES
from bertkernels.analysis.trained_sites import Batches, trained_sites
from bertkernels.errors import InputError


@dataclass
class ApproximateArguments:
    """Which sites, and which probes beside the closed-form ones."""

    sites: list[str] | None = field(default=None, metadata={"help": "The sites to probe (default: all there are)."})
    blocks: str | None = field(default=None, metadata={"help": "Of these blocks, such as 0-3 (default: of all)."})
    reach: int = field(default=1, metadata={"help": "Neighbours on either side that probes of mixing sites see too."})
    trained_probes: list[str] = field(
        default_factory=list,
        metadata={"help": "Also train probes of these kinds: linear, relu (both as in the paper), mlp."},
    )
    probe_loss: str = field(default="cosine", metadata={"help": "Of trained probes: cosine (the paper's), mse or l2."})
    probe_epochs: int = field(default=3, metadata={"help": "Of trained probes (published: 3)."})
    probe_learning_rate: float = field(default=1e-3, metadata={"help": "Of trained probes (published: 1e-3)."})
    probe_seed: int = field(default=0, metadata={"help": "Of trained probes' first weights."})


class Approximate(ModelExperiment):
    """A job for each block. Probes are fitted on the training rows and scored on the first split of evaluation rows."""

    name = "approximate"
    options: ApproximateArguments
    scored = False

    def check(self) -> None:
        super().check()
        options = self.options
        for flag, values, known in (
            ("trained_probes", options.trained_probes, KINDS),
            ("probe_loss", [options.probe_loss], tuple(LOSSES)),
        ):
            unknown = [value for value in values if value not in known]
            if unknown:
                raise InputError(f"--{flag} must be of {', '.join(known)}, not {unknown[0]!r}")

    def own_settings(self) -> dict:
        options = self.options
        names = ("reach", "trained_probes", "probe_loss", "probe_epochs", "probe_learning_rate", "probe_seed")
        return {name: getattr(options, name) for name in names} | {"fitted_on": len(self.subject.train.features)}

    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        layered = self.subject.layered
        chosen = chosen_sites(layered, self.options.sites)
        count = len(layered.blocks)
        blocks = range(count) if self.options.blocks is None else read_range(self.options.blocks, count)
        found = []
        for block in blocks:
            sites = [site for site in chosen if site in layered.sites(block)]
            if sites:
                found.append(Trial(f"block {block}: {', '.join(sites)}", {"block": block, "probed": sites}))
        return found

    def jobs(self, lines: Sequence[dict]) -> list[Job]:
        return [Job(trial, MEASURED) for trial in self.trials(lines)]

    def do(self, job: Job, lines: Sequence[dict]) -> dict:
        """Scores of all probes of a block's sites."""
        layered, block = self.subject.layered, job.trial.labels["block"]
        places = [(block, site) for site in job.trial.labels["probed"]]
        train = self.subject.batches(self.subject.train.features)
        held_out = self.subject.batches(next(iter(self.subject.evaluation.values())).features)
        found = site_linearity(layered, train, held_out, places, self.options.reach)
        sites: dict[str, dict] = {}
        for (_, site), linearity in found.items():
            sites[site] = {"mixes": layered.site(block, site).mixes, "ridge": linearity.token.ridge}
            sites[site] |= linearity.token.scores.as_dict()
            if linearity.window is not None:
                sites[site]["window"] = linearity.window.scores.as_dict()
        for kind in self.options.trained_probes:
            for (_, site), scores in self._trained(kind, places, train, held_out).items():
                sites[site][f"trained_{kind}"] = scores
        return {"sites": sites}

    def _trained(self, kind: str, places: Sequence[Place], train: Batches, held_out: Batches) -> dict[Place, dict]:
        options = self.options
        found = trained_sites(
            self.subject.layered,
            train,
            held_out,
            places,
            kind,
            options.probe_loss,
            options.probe_epochs,
            options.probe_learning_rate,
            seed=options.probe_seed,
        )
        return {place: site.scores.as_dict() for place, site in found.items()}
