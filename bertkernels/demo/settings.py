"""What the demo trains: chosen so that pre-training shows within two minutes on two cores."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The demo's options and sizes.

    Attributes:
        output_dir: the folder for models, results and the report.
        minutes: what the whole demo may take.
        seed: of every random draw.
        objective: of pre-training. As a masked language model the encoder learns what its words mean within minutes. An
            ELECTRA discriminator takes hours to: until its generator is good, telling replaced words needs little
            meaning.
        max_steps: of pre-training, however quick a step is.
    """

    output_dir: Path
    minutes: float = 5.0
    seed: int = 0
    vocab_size: int = 6000
    max_seq_length: int = 64
    plan: str = "2*(mixed ffn)"
    hidden_size: int = 64
    intermediate_size: int = 128
    num_attention_heads: int = 2
    objective: str = "masked_lm"
    mask_probability: float = 0.15
    pretrain_batch: int = 32
    pretrain_learning_rate: float = 3e-3
    max_steps: int = 20_000
    labelled_examples: int = 2000
    finetune_epochs: int = 4
    finetune_batch: int = 16
    finetune_learning_rate: float = 1e-3

    @property
    def measure_seconds(self) -> float:
        """For how long each comparison of speeds is timed."""
        return min(4.0, 0.8 * self.minutes)

    @property
    def compile_seconds(self) -> float:
        """What torch.compile may take of the demo's time; 0 where that is too little to try."""
        return 15 * self.minutes if self.minutes >= 2 else 0.0
