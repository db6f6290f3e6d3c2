"""Expressions: what a feed-forward layer computes, as text, tree, and member of EfficientBERT's search space.

An expression has one input x and two linear layers, w1 and w2: `tanh(linear(gelu(linear(x, w1)), w2))`. Nothing here
needs torch; `bertkernels.nn.ExpressionFeedForward` runs them.

Source: the released program of EfficientBERT (Dong et al. 2021, Findings of EMNLP).
"""

from .canonical import canonical, expression_hash
from .generate import random_expression
from .mutate import insert_node, mutate, remove_node, replace_node, replace_subtree
from .parse import ExpressionError, parse_expression
from .programs import row_programs
from .rules import RULES, check_rules, follows_rules
from .tree import (
    ACTIVATIONS,
    COMBINATIONS,
    MOST,
    Binary,
    Input,
    Linear,
    Node,
    Unary,
    height,
    nodes,
    original_text,
    plain,
    shape_of,
)
from .widths import WIDTH_RULES, node_widths, output_width

__all__ = [
    "ACTIVATIONS",
    "COMBINATIONS",
    "MOST",
    "RULES",
    "WIDTH_RULES",
    "Binary",
    "ExpressionError",
    "Input",
    "Linear",
    "Node",
    "Unary",
    "canonical",
    "check_rules",
    "expression_hash",
    "follows_rules",
    "height",
    "insert_node",
    "mutate",
    "node_widths",
    "nodes",
    "original_text",
    "output_width",
    "parse_expression",
    "plain",
    "random_expression",
    "remove_node",
    "replace_node",
    "replace_subtree",
    "row_programs",
    "shape_of",
]
