"""The search space's rules, its random members, mutations, canonical forms and widths."""

from random import Random

import pytest

from bertkernels.errors import InputError
from bertkernels.nn.expressions import (
    RULES,
    ExpressionError,
    Linear,
    canonical,
    check_rules,
    expression_hash,
    follows_rules,
    height,
    insert_node,
    mutate,
    nodes,
    original_text,
    output_width,
    parse_expression,
    random_expression,
    remove_node,
    replace_node,
    replace_subtree,
)

RELEASED = [
    "tanh(linear4_2(gelu(linear4_2(x,wb1)),wb2))",
    "elu(linear2_1(gelu(linear2_1(x,wb1)),wb2))",
    "sigmoid(linear1_2(relu(linear1_2(x,wb1)),wb2))",
    "linear2_2(gelu(linear2_2(max(x,tanh(x)),wb1)),wb2)",
    "linear1_2(relu(mul(linear1_2(x,wb1),x)),wb2)",
    "leaky_relu(linear2_3(gelu(linear2_3(x,wb1)),wb2))",
]
BROKEN = [
    ("add(linear(x, w1), linear(x, w2))", "height_within_limits", "the tree is 2 high, 3 to 7 are allowed", 1),
    ("add(x,mul(x,add(x,mul(x,add(x,linear(gelu(linear(x,w1)),w2))))))", "height_within_limits", "8 high", 1),
    ("linear(gelu(linear(x, w1)), w1)", "each_weight_once", "w1 is used a second time", 13),
    ("add(x, tanh(linear(x, w1)))", "each_weight_once", "w2 is not used", 1),
    ("linear(gelu(linear(x, w2)), w1)", "first_weight_first", "w2 stands before w1", 13),
    ("add(linear(x, w2), tanh(linear(x, w1)))", "first_weight_first", "w2 stands before w1", 5),
    ("linear(gelu(tanh(linear(x, w1))), w2)", "no_activation_inside_activation", "an activation stands directly", 13),
    ("tanh(linear(linear(x, w1), w2))", "no_linear_inside_linear", "a linear layer stands directly", 13),
    ("linear2_1(gelu(linear2_2(x, w1)), w2)", "linears_alike", "its name differs", 16),
    ("linear(gelu(linear(max(x, x), w1)), w2)", "arguments_differ", "both arguments of max are the same", 20),
    (
        "linear(gelu(linear(add(max(x,tanh(x)), max(x, tanh(x))), w1)), w2)",
        "arguments_differ",
        "both arguments of add are the same",
        20,
    ),
]


@pytest.mark.parametrize("text", RELEASED)
def test_the_released_ones_follow_them(text):
    assert original_text(check_rules(text)) == text


@pytest.mark.parametrize(("text", "rule", "message", "character"), BROKEN)
def test_each_rule_names_itself_and_the_place(text, rule, message, character):
    tree = parse_expression(text)
    assert [each.__name__ for each in RULES if each(tree)] == [rule] and not follows_rules(tree)
    with pytest.raises(ExpressionError) as caught:
        check_rules(text)
    assert message in str(caught.value) and f"(rule {rule})" in str(caught.value)
    assert f"(character {character})\n" in str(caught.value)


def test_every_rule_has_a_case():
    assert {rule for _, rule, _, _ in BROKEN} == {rule.__name__ for rule in RULES}


def test_rules_of_a_tree_show_its_own_text():
    with pytest.raises(ExpressionError, match=r"w1 is used a second time .*\(character 13\)"):
        check_rules(parse_expression("   linear(  gelu(linear(x, w1)), w1)"))


# -- chance ------------------------------------------------------------------------------------------------------------


def test_random_ones_follow_the_rules_and_repeat_with_the_seed():
    trees = [random_expression(generator) for generator in [Random(3)] for _ in range(2_000)]
    assert all(follows_rules(tree) for tree in trees)
    assert {height(tree) for tree in trees} == {3, 4, 5, 6, 7}
    again = Random(3)
    assert [random_expression(again) for _ in range(2_000)] == trees
    nested = sum(len([n for n in nodes(tree) if isinstance(n, Linear) and n.weight == 1]) for tree in trees)
    assert nested == 2_000


def test_random_ones_are_those_that_are_accepted():
    tree = random_expression(Random(0), accept=lambda tree: height(tree) == 6)
    assert height(tree) == 6
    with pytest.raises(InputError, match="no expression that is accepted was found in 50 tries"):
        random_expression(Random(0), accept=lambda tree: False, tries=50)


def test_mutants_follow_the_rules_and_repeat_with_the_seed():
    seed = parse_expression(RELEASED[0])
    mutants = [mutate(seed, generator) for generator in [Random(1)] for _ in range(40)]
    assert all(follows_rules(mutant) for mutant in mutants) and len(set(mutants)) > 20
    assert all(node.shape == (4, 2) for mutant in mutants for node in nodes(mutant) if isinstance(node, Linear))
    again = Random(1)
    assert [mutate(seed, again) for _ in range(40)] == mutants
    assert mutate(seed, Random(1), accept=lambda tree: False, tries=20) == seed


def size(tree):
    return sum(1 for _ in nodes(tree))


def test_what_each_mutation_changes():
    generator = Random(2)
    seed = parse_expression(RELEASED[4])
    subtrees = [replace_subtree(seed, generator) for _ in range(200)]
    assert len(set(subtrees)) > 50
    replaced = [replace_node(seed, generator) for _ in range(200)]
    assert all(size(tree) == size(seed) for tree in replaced)
    assert all(sum(a != b for a, b in zip(names(tree), names(seed), strict=True)) <= 1 for tree in replaced)
    assert len(set(replaced)) == 9, "seven activations and three combinations in two places, itself among both"
    inserted = [insert_node(seed, generator) for _ in range(200)]
    assert {size(tree) - size(seed) for tree in inserted} == {1, 2}
    removed = [remove_node(seed, generator) for _ in range(200)]
    assert all(size(tree) < size(seed) for tree in removed)


def names(tree):
    return [getattr(node, "name", type(node).__name__) for node in nodes(tree)]


# -- canonical form ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("add(x, tanh(x))", "add(tanh(x), x)"),
        ("max(x, max(tanh(x), elu(x)))", "max(max(elu(x), x), tanh(x))"),
        ("linear2_1(mul(x, relu(x)), w1)", "linear(mul(relu(x), x), w1)"),
    ],
)
def test_order_and_grouping_do_not_matter(one, other):
    one, other = parse_expression(one), parse_expression(other)
    assert one != other and canonical(one) == canonical(other) == canonical(canonical(one))
    assert expression_hash(one) == expression_hash(other)


def test_other_differences_do_matter():
    texts = ["add(x, tanh(x))", "mul(x, tanh(x))", "add(x, elu(x))", "add(x, mul(x, tanh(x)))", "linear(x, w1)"]
    assert len({expression_hash(parse_expression(text)) for text in [*texts, "linear(x, w2)"]}) == 6
    assert expression_hash(parse_expression("tanh(x)")) == "462822da87999cd0", "the same on every machine"


# -- widths ------------------------------------------------------------------------------------------------------------


def test_widths():
    gated = "linear(relu(mul(linear(x, w1), x)), w2)"
    assert output_width(gated, 40, 20) == 40 and output_width(gated, 24, 48, "pad") == 24
    assert output_width("add(linear(x, w1), x)", 40, 20) == 20
    assert output_width("add(linear(x, w1), x)", 40, 20, "pad_published") == 40


@pytest.mark.parametrize(
    ("text", "widths", "message", "character"),
    [
        ("mul(linear(x, w1), linear(x, w2))", "crop", "w2 takes 20 channels and is given 40", 20),
        ("linear(relu(mul(linear(x, w1), x)), w2)", "pad", "w2 takes 20 channels and is given 40", 1),
        ("linear(max(x, linear(x, w1)), w1)", "crop", "w1 takes 40 channels and is given 20", 1),
    ],
)
def test_widths_that_do_not_fit(text, widths, message, character):
    with pytest.raises(ExpressionError) as caught:
        output_width(text, 40, 20, widths)
    assert message in str(caught.value) and f"(character {character})\n" in str(caught.value)
