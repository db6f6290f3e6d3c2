"""Keeping the model of the best evaluation, and stopping when there is no better one."""

from collections.abc import Collection

from transformers import EarlyStoppingCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from bertkernels.errors import InputError
from bertkernels.training.training_arguments import FinetuneRunArguments


class EarlyStopping(EarlyStoppingCallback):
    """transformers' callback, asked at the split that decides only: with several each is an evaluation of its own."""

    def on_evaluate(self, args, state, control, metrics, **kwargs) -> None:
        if args.metric_for_best_model in metrics:
            super().on_evaluate(args, state, control, metrics, **kwargs)


def keep_best(run: FinetuneRunArguments, splits: Collection[str], metric: str) -> None:
    """Sets what makes the Trainer evaluate and load the best model at the end; of several splits the first decides.

    Evaluates and saves after each epoch where the run doesn't say when. Raises InputError where there is nothing to
    evaluate on.
    """
    if not splits:
        raise InputError("--best_on_dev and --early_stopping_patience need evaluation rows: add --validation_file")
    if run.eval_strategy == IntervalStrategy.NO:
        run.eval_strategy = IntervalStrategy.EPOCH
    run.save_strategy = SaveStrategy(run.eval_strategy)
    run.save_steps = run.eval_steps
    run.load_best_model_at_end = True
    run.metric_for_best_model = f"eval_{metric}" if len(splits) == 1 else f"eval_{next(iter(splits))}_{metric}"
    run.greater_is_better = True


def early_stopping(run: FinetuneRunArguments, patience: int) -> EarlyStopping:
    """The callback for a run that `keep_best` prepared; its count survives a resume.

    Raises InputError for a patience below 1.
    """
    if patience < 1:
        raise InputError(f"--early_stopping_patience must be at least 1, not {patience}")
    run.restore_callback_states_from_checkpoint = True
    return EarlyStopping(patience)
