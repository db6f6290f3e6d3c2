"""The flags of fine-tuning beside those of the run: which model, and which task."""

from dataclasses import dataclass, field
from typing import Literal

from bertkernels.training.question_arguments import QuestionArguments
from bertkernels.training.tagging_arguments import TaggingArguments


@dataclass
class TaskArguments(QuestionArguments, TaggingArguments):
    """Which task, as fine-tuning and prediction ask for it."""

    glue_dir: str | None = field(default=None, metadata={"help": "Folder with GLUE's task folders."})
    task_name: str | None = field(
        default=None,
        metadata={
            "help": "GLUE task (SST-2, MRPC, ...; several with commas between them, or all); squad, squad_v2 or mrqa; "
            "chunk, ner or pos (tags for words); swag, race or multiple_choice. Published for chunk (CoNLL-2000): 256 "
            "tokens, 3 epochs, batches of 32."
        },
    )
    dataset_name: str | None = field(
        default=None,
        metadata={"help": "Name of a data set on the hub; nyu-mll/glue goes with --task_name in place of --glue_dir."},
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    sentence1_column: str | None = field(default=None, metadata={"help": "Column of the (first) text."})
    sentence2_column: str | None = field(default=None, metadata={"help": "Column of the second text."})
    max_seq_length: int | None = field(
        default=None,
        metadata={
            "help": "Longer inputs are cut, the longer text first (128; race: 512), or into windows (questions: 512, "
            "tags: 256)."
        },
    )


@dataclass
class FinetuneArguments(TaskArguments):
    """What to fine-tune, and on which task."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder of an encoder (of ours or Hugging Face's), or a hub name."}
    )
    from_scratch: bool = field(
        default=False,
        metadata={"help": "Only the configuration and tokenizer of --model_name_or_path, random weights."},
    )
    preset: str | None = field(
        default=None, metadata={"help": "A published encoder with random weights, in place of --model_name_or_path."}
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Tokenizer, if not the model's."})
    vocab_file: str | None = field(default=None, metadata={"help": "A BERT vocab.txt (lower-case), for --preset."})
    text_source: Literal["builtin"] | None = field(
        default=None, metadata={"help": "builtin: which library does a docstring's paragraph come from?"}
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Training rows: .tsv, .csv, .json or .jsonl; of tags any other suffix for CoNLL's columns, of race "
            "its folder of JSON files."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "Evaluation rows, in the same form."})
    label_column: str | None = field(default=None, metadata={"help": "Column of the label."})
    task_type: Literal["classification", "regression"] = field(
        default="classification", metadata={"help": "regression: labels are numbers (STS-B's always are)."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many rows."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on the first so many rows."})
    held_out_samples: float | None = field(
        default=None,
        metadata={
            "help": "Evaluate on the last so many training rows (below 1: that share of them), which are not trained "
            "on, in place of the evaluation rows: to choose by."
        },
    )
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "Processes that tokenise (default: one, with threads)."}
    )
    double_unordered: bool = field(
        default=False,
        metadata={
            "help": "Train on each pair in both orders, as ELECTRA on MRPC and STS-B; of GLUE's tasks only on those."
        },
    )
    label_scale: float = field(
        default=1.0,
        metadata={"help": "Regression: the model learns labels divided by this (ELECTRA: 5 for STS-B)."},
    )
    best_on_dev: bool = field(
        default=False,
        metadata={
            "help": "Keep the model of the best evaluation by the task's main metric, not the last. Evaluates after "
            "each epoch unless --eval_strategy says otherwise."
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after so many evaluations without a better one; the best model is kept."},
    )
