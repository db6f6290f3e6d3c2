"""What a run of compression says of itself while it trains."""

from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from bertkernels.training.theseus.rates import first_full_step
from bertkernels.training.theseus.trainer import TheseusTrainer


class TheseusProgress(TrainerCallback):
    """The replacing rate and the last gates beside the progress bar; at the beginning, when the phases change."""

    def __init__(self, trainer: TheseusTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        steps = state.max_steps
        full = first_full_step(self._trainer.settings.rate, steps)
        if full is None:
            print(
                f"the successor is never trained alone: the replacing rate is below 1 to the last of {steps:,} steps",
                flush=True,
            )
        elif full:
            print(f"from step {full:,} of {steps:,} on the successor is trained alone", flush=True)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        bar = next((found.training_bar for found in self._trainer.callback_handler.callbacks if _has_bar(found)), None)
        if bar is not None:
            gates = "".join("01"[replaced] for replaced in self._trainer.gates)
            rate = self._trainer.settings.rate(max(0, state.global_step - 1))
            bar.set_postfix_str(f"rate {rate:.3f} replaced {gates}", refresh=False)


def _has_bar(callback: TrainerCallback) -> bool:
    return isinstance(callback, ProgressCallback) and callback.training_bar is not None
