"""Batches of features of different lengths."""

from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

_WIDTHS = 32  # what widths of batches are multiples of where each gets a CUDA graph


def padding_arguments(max_length: int, few_widths: bool) -> dict[str, object]:
    """What a collator of transformers pads a batch with: to its longest, or with `few_widths` to one of few widths."""
    if not few_widths:
        return {}
    if max_length % _WIDTHS == 0:
        return {"pad_to_multiple_of": _WIDTHS}
    return {"padding": "max_length", "max_length": max_length}


def padding_collator(tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> DataCollatorWithPadding:
    """Pads a batch to its longest feature, with `few_widths` to one of few widths up to `max_length`."""
    return DataCollatorWithPadding(tokenizer, **padding_arguments(max_length, few_widths))
