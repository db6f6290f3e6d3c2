"""Tokens of sentence pairs, cut as BERT's programs cut them."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_CHUNK = 4096  # pairs whose encodings are in memory at a time


def pair_features(
    tokenizer: PreTrainedTokenizerBase, firsts: Sequence[str], seconds: Sequence[str], max_length: int
) -> dict[str, list[list[int]]]:
    """`input_ids`, `attention_mask` and, where the tokenizer has them, `token_type_ids` of pairs.

    A pair that is too long loses tokens at the end of the longer text, of equal ones of the second, until it fits.
    (`longest_first` of tokenizers leaves the odd token to the second text instead.)
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    budget = max_length - backend.num_special_tokens_to_add(is_pair=True)
    columns: dict[str, list[list[int]]] = {"input_ids": [], "token_type_ids": [], "attention_mask": []}
    for start in range(0, len(firsts), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        pairs = (backend.encode_batch(list(texts[chunk]), add_special_tokens=False) for texts in (firsts, seconds))
        for first, second in zip(*pairs, strict=True):
            kept = cut_lengths(len(first), len(second), budget)
            first.truncate(kept[0])
            second.truncate(kept[1])
            both = backend.post_process(first, second)
            columns["input_ids"].append(both.ids)
            columns["token_type_ids"].append(both.type_ids)
            columns["attention_mask"].append(both.attention_mask)
    return {name: column for name, column in columns.items() if name in tokenizer.model_input_names}


def cut_lengths(first: int, second: int, budget: int) -> tuple[int, int]:
    """Tokens to keep of two texts with so many each, of which `budget` fit."""
    if first + second <= budget:
        return first, second
    larger, smaller = (budget + 1) // 2, budget // 2
    if second <= smaller:
        return budget - second, second
    if first <= larger:
        return first, budget - first
    return larger, smaller
