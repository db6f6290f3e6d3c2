"""The text of an answer as BERT's original code finds it, which knows words and pieces but no characters' places.

The words around the answer are split at punctuation and lower-cased once more, the answer is searched in them, and its
letters are counted to find it in the text as it was. Where that fails (pieces that spell another text than the words
do, as after an unknown token) the answer is all of its words.
"""

import re
from itertools import accumulate

from transformers import PreTrainedTokenizerBase

_WORDS = re.compile(r"[^ \t\r\n\u202f]+")


def piece_text(pieces: list[str]) -> str:
    """WordPiece tokens as the text they spell."""
    return " ".join(" ".join(pieces).replace(" ##", "").replace("##", "").split())


def words_around(text: str, begin: int, end: int) -> str:
    """The words that hold the characters [begin, end) of a text, with one space between them."""
    words = (word for word in _WORDS.finditer(text) if word.end() > begin and word.start() < end)
    return " ".join(word.group() for word in words)


def find_answer(answer: str, words: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The part of `words` that `answer`, as its pieces spell it, stands for; all of them where that is not found."""
    backend = tokenizer.backend_tokenizer
    normal = backend.normalizer.normalize_str(words) if backend.normalizer else words
    split = " ".join(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    begin = split.find(answer)
    letters = [place for place, letter in enumerate(words) if letter != " "]
    if begin < 0 or not answer or len(letters) != len(split.replace(" ", "")):
        return words
    before = [0, *accumulate(letter != " " for letter in split)]  # letters before each place of `split`
    return words[letters[before[begin]] : letters[before[begin + len(answer) - 1]] + 1]
