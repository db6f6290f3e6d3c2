"""Training a supernet of stacked feed-forward layers along its students: another one each step, within a budget."""

import numpy as np
from transformers import PreTrainedModel, TrainerCallback

from bertkernels.models.genotype import genotype_of
from bertkernels.models.inheritance import choose_genotype
from bertkernels.models.shape_budget import ShapeBudget


class GenotypeSteps(TrainerCallback):
    """Has each optimizer step train the student of random shapes within the budget.

    Which one is a function of seed and step alone: all processes of a run train the same, and a resumed run those that
    an unbroken one would have. Between steps, in evaluations for example, the supernet runs whole.

    Layers off the student get no gradient; channels that it does not use get zeros, so weight decay and moments still
    move those, as in the released program.

    Source: the released program of EfficientBERT (Dong et al. 2021), third stage.
    """

    def __init__(self, model: PreTrainedModel, budget: ShapeBudget, seed: int) -> None:
        self._model, self._budget, self._seed = model, budget, seed
        self._whole = genotype_of(model.config)

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        rng = np.random.default_rng((self._seed, state.global_step))
        choose_genotype(self._model, self._budget.genotype(self._budget.random(rng)))

    def on_step_end(self, args, state, control, **kwargs) -> None:
        choose_genotype(self._model, self._whole)
