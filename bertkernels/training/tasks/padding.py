"""Batches of features of different lengths."""

from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

_WIDTHS = 32  # what widths of batches are multiples of where each gets a CUDA graph


def padding_collator(tokenizer: PreTrainedTokenizerBase, max_length: int, few_widths: bool) -> DataCollatorWithPadding:
    """Pads a batch to its longest feature, with `few_widths` to one of few widths up to `max_length`."""
    if not few_widths:
        return DataCollatorWithPadding(tokenizer)
    if max_length % _WIDTHS == 0:
        return DataCollatorWithPadding(tokenizer, pad_to_multiple_of=_WIDTHS)
    return DataCollatorWithPadding(tokenizer, padding="max_length", max_length=max_length)
