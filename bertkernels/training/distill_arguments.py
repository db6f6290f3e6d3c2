"""The flags of distillation beside those of fine-tuning: teacher, student, losses."""

from dataclasses import dataclass, field
from typing import Literal

from bertkernels.models.genotype import FIT_SIZE
from bertkernels.training.distillation.block_map import UNIFORM
from bertkernels.training.distillation.comparison import LossSettings
from bertkernels.training.encoder_size_arguments import EncoderSizeArguments
from bertkernels.training.finetune_arguments import FinetuneArguments


@dataclass
class DistillArguments(EncoderSizeArguments, FinetuneArguments):
    """Whom to distil into what, on which task or text, with which losses."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "The student: a folder of ours, or of Hugging Face's, which is converted."},
    )
    preset: str | None = field(
        default=None, metadata={"help": "A student with random weights: a published encoder by name."}
    )
    plan: str | None = field(
        default=None,
        metadata={
            "help": 'A student with random weights: its sub-layers, such as "4*(attention ffn)"; all else is the '
            "--preset's, or without one the teacher's."
        },
    )
    init_from_teacher: Literal["first", "mapped"] | None = field(
        default=None,
        metadata={
            "help": "Such a student starts with the teacher's embeddings and blocks: its first ones, or those that "
            "--block_map names. Their shapes must be the same."
        },
    )
    teacher_model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "The teacher: a folder of ours or Hugging Face's with the task's head; or the output folder of "
            "many seeds or of several tasks. For text (--prepared_dir) any encoder."
        },
    )
    teacher_dtype: Literal["float32", "bfloat16"] = field(
        default="float32", metadata={"help": "What the teacher computes in."}
    )
    teacher_logits: str | None = field(
        default=None,
        metadata={
            "help": "Folder that keeps what the teacher says of the training rows: made if it isn't there, and refused "
            "if it is of another teacher or other rows. For runs whose losses ask nothing else of the teacher."
        },
    )
    multi_task: bool = field(
        default=False,
        metadata={
            "help": "The tasks of --task_name, several of GLUE's, at once: one encoder with a head for each. Their "
            "teachers are in folders of their names in --teacher_model_name_or_path, which may be left out where "
            "labels alone teach."
        },
    )
    prepared_dir: str | None = field(
        default=None,
        metadata={"help": "Distil on text in place of a task: examples that `bertkernels prepare` wrote. No masks."},
    )
    block_map: list[str] = field(
        default_factory=lambda: [UNIFORM],
        metadata={
            "help": "The teacher's block for each of the student's. uniform: the last of each of its equal parts; "
            "first: its first ones; or numbers from 1, 0 for none: 3 6 9 12."
        },
    )
    projection: Literal["auto", "shared", "per_block", "none"] = field(
        default="auto",
        metadata={
            "help": "A linear layer from the student's width to the teacher's that hidden states are compared through: "
            "one for all, or one each. auto: shared where widths differ, none where they don't."
        },
    )
    embedding_weight: float = field(default=1.0, metadata={"help": "Weight of the loss on the embeddings' output."})
    hidden_weight: float = field(default=1.0, metadata={"help": "Weight of the losses on blocks' outputs."})
    attention_weight: float = field(
        default=1.0, metadata={"help": "Weight of the losses on attention scores before their softmax."}
    )
    logits_weight: float = field(default=1.0, metadata={"help": "Weight of the loss on what the heads say."})
    label_weight: float = field(default=0.0, metadata={"help": "Weight of the task's own loss."})
    temperature: float = field(default=1.0, metadata={"help": "Divides both sides' logits."})
    logits_reduction: Literal["batch", "elements"] = field(
        default="batch",
        metadata={
            "help": "batch: cross entropies' mean over the batch. elements: divided by the number of classes (or "
            "tokens) too, as in the originals."
        },
    )
    regression_target: Literal["teacher", "labels"] = field(
        default="teacher", metadata={"help": "What numbers are learned from; labels: as in the originals."}
    )
    losses_at_padding: bool = field(
        default=False,
        metadata={
            "help": "Losses on states and scores count padding, as in the originals; both models then run padded, and "
            'the student is saved with padding="reference".'
        },
    )

    sample_shapes: bool = field(
        default=False,
        metadata={
            "help": "The student is a supernet of expression_ffn: train one of its own students each step, of random "
            "shapes S_R within the budget."
        },
    )
    min_parameters: float = field(
        default=15e6, metadata={"help": "Budget of students cut out of a supernet, without pooler and head."}
    )
    max_parameters: float = field(default=16e6, metadata={"help": "The same (published: 15e6 to 16e6)."})
    counted_projection: int = field(
        default=FIT_SIZE,
        metadata={"help": "Width whose projection counts in that budget, as published; 0: none does."},
    )

    def loss_settings(self) -> LossSettings:
        text = self.prepared_dir is not None
        return LossSettings(
            embedding_weight=self.embedding_weight,
            hidden_weight=self.hidden_weight,
            attention_weight=self.attention_weight,
            logits_weight=0.0 if text else self.logits_weight,
            label_weight=self.label_weight,
            temperature=self.temperature,
            logits_reduction=self.logits_reduction,
            regression_labels=self.regression_target == "labels",
            at_padding=self.losses_at_padding,
        )
