import pytest

from bertkernels.data.docstrings import docstrings
from bertkernels.data.prose import paragraphs, sentences


def test_docstrings_come_in_the_order_of_lines_and_include_attached_ones():
    source = '''"""The module says something."""
import torch
class A:
    """A class that does much."""
    def f(self):
        def inner():
            "An inner function of it."
        return inner
add_docstr(torch.abs, r"""
abs(input) -> Tensor

Computes the absolute value.
""".format(**common))
async def g():
    """A coroutine of no use."""
'''
    found = list(docstrings(source))
    assert found == [
        "The module says something.",
        "A class that does much.",
        "An inner function of it.",
        "abs(input) -> Tensor\n\nComputes the absolute value.",
        "A coroutine of no use.",
    ]


def test_source_that_does_not_parse_is_an_error():
    with pytest.raises(SyntaxError):
        list(docstrings("def f(:"))


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Adds two numbers\nand returns their sum.", ["Adds two numbers and returns their sum."]),
        (
            "Shows how it works:\n\n>>> f(1)\n2\n\nThis text comes after the code.",
            ["Shows how it works", "This text comes after the code."],
        ),
        (
            "Use it like this one::\n\n    x = f(1)\n    y = f(2)\n\nIt returns the last value.",
            ["Use it like this one", "It returns the last value."],
        ),
        ("```python\nmodel = make me a model\n```\nThe model is made here.", ["The model is made here."]),
        (
            ".. code-block:: python\n\n    this is code not text here\n\nAfter the code comes text.",
            ["After the code comes text."],
        ),
        (".. note::\n    A note is made of English words.", ["A note is made of English words."]),
        (
            "Args:\n    x (int): The value that is doubled here.\n    y: Another value that is kept.",
            ["The value that is doubled here.", "Another value that is kept."],
        ),
        (
            "Parameters\n----------\nx : int, optional\n    The value that is doubled here.",
            ["The value that is doubled here."],
        ),
        (
            ":param x: the value that is doubled\n:returns: the value after it was doubled",
            ["the value that is doubled", "the value after it was doubled"],
        ),
        (
            "A heading of four words\n=======================\nThe text below the heading.",
            ["The text below the heading."],
        ),
        ("+-----+-----+\n| one | two |\n+-----+-----+\n\nThe text below the table.", ["The text below the table."]),
        (
            "See :class:`~torch.nn.Linear` and ``weight`` of `the layer <https://a.b>`_ here.",
            ["See Linear and weight of the layer here."],
        ),
        (
            "The [`Trainer`] is **very** useful, see [the guide](https://a.b).",
            ["The Trainer is very useful, see the guide."],
        ),
        (
            "- the first item of the list\n- the second item of the list",
            ["the first item of the list", "the second item of the list"],
        ),
        ("int x = 5; y = f(x)[3]", []),
        ("Too short.", []),
    ],
)
def test_paragraphs(docstring, expected):
    assert paragraphs(docstring) == expected


def test_sentences_end_where_the_next_begins_with_a_capital():
    text = "It adds, e.g. Two and three. The sum is 5. 7 is prime! Is it? (Yes.) see version 2.5 of it"
    assert sentences(text) == [
        "It adds, e.g. Two and three.",
        "The sum is 5.",
        "7 is prime!",
        "Is it?",
        "(Yes.) see version 2.5 of it",
    ]
