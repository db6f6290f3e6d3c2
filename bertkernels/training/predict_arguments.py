"""The flags of prediction."""

from dataclasses import dataclass, field

from bertkernels.training.finetune_arguments import TaskArguments


@dataclass
class PredictArguments(TaskArguments):
    """What to predict, with which fine-tuned model."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Folder of a fine-tuned model, or a hub name; or the output folder of many seeds (the best is "
            "taken) or of several tasks."
        },
    )
    output_dir: str | None = field(default=None, metadata={"help": "Folder for the predictions."})
    test_file: str | None = field(
        default=None, metadata={"help": "Rows to predict, as --train_file of fine-tuning; labels need not be there."}
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Tokenizer, if not the model's."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Predict the first so many rows only."})
    probabilities: bool = field(default=False, metadata={"help": "Write the probability of each label too."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Batch size of one process."})
    bf16: bool = field(default=False, metadata={"help": "Run the model in bfloat16."})
    use_cpu: bool = field(default=False, metadata={"help": "Stay on the CPU even where there is a GPU."})
    disable_tqdm: bool = field(default=False, metadata={"help": "No progress bar."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Replace predictions that stand in --output_dir already."}
    )
