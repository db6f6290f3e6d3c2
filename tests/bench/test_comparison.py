import pytest

from bertkernels.bench.comparison import comparisons


@pytest.fixture
def compare(make_row):
    def compare(times: dict[str, float], **fields):
        (comparison,) = comparisons([make_row(peer, time, **fields) for peer, time in times.items()])
        return comparison

    return compare


def test_ours_is_measured_by_the_slowest_floor(compare):
    times = {"Hugging Face": 100, "bertkernels (cpu)": 60, "its own matrix products": 40, "copy of the same bytes": 10}
    comparison = compare(times, op="linear")
    assert comparison.ours == comparison.fastest == "bertkernels (cpu)"
    assert comparison.floor == 40 and comparison.over_floor == 1.5
    assert comparison.speedup("Hugging Face") == pytest.approx(100 / 60)
    assert comparison.speedup("Hugging Face, compiled") is None
    assert not comparison.loses


@pytest.mark.parametrize(
    ("times", "rival", "loses"),
    [
        ({"Hugging Face": 100, "bertkernels (cpu)": 101}, "Hugging Face", True),
        ({"Hugging Face": 100, "baddbmm": 49, "bertkernels (cpu)": 50}, "baddbmm", True),
        ({"Hugging Face": 100, "our ops one by one": 49, "bertkernels (cpu)": 50}, "our ops one by one", True),
        ({"Hugging Face": 100, "bertkernels (cuda)": 50, "bertkernels (triton)": 49}, "Hugging Face", False),
        (
            {"Hugging Face": 100, "patched": 50, "bertkernels encoder": 49, "patched, compiled": 48},
            "Hugging Face",
            False,
        ),
        ({"Hugging Face": 100, "static conv1d": 10, "bertkernels (cpu)": 50}, "Hugging Face", False),
        ({"Hugging Face": 100, "copy of the same bytes": 10, "bertkernels (cpu)": 50}, "Hugging Face", False),
        ({"bertkernels (cpu)": 50}, None, False),
        ({"Hugging Face": 100}, "Hugging Face", False),
    ],
)
def test_a_case_is_lost_to_another_way_of_the_same_work(compare, times, rival, loses):
    comparison = compare(times)
    assert comparison.rival == rival and comparison.loses == loses


def test_encoders_are_judged_by_the_patched_model(compare):
    times = {"Hugging Face": 200, "bertkernels encoder": 120, "patched": 150, "its own matrix products": 100}
    assert compare(times, op="encoder").over_floor == 1.5
    times = {"Hugging Face": 200, "bertkernels encoder, unpadded": 120, "patched, unpadded": 150}
    assert compare(times, op="padded_batch", text="RTE").ours == "patched, unpadded"


def test_cases_come_by_op_size_batch_and_mode(make_row):
    fields = [
        {"op": "encoder"},
        {"size": "base"},
        {"size": "small", "mode": "forward+backward"},
        {"size": "small", "mode": "backward"},
        {"size": "small", "batch": 1},
        {"size": "small"},
    ]
    rows = [make_row("Hugging Face", 1, **changes) for changes in fields]
    seen = [(c.row["op"], c.row["size"], c.row["batch"], c.row["mode"]) for c in comparisons(rows)]
    assert seen == [
        ("light_conv", "small", 8, "forward"),
        ("light_conv", "small", 8, "backward"),
        ("light_conv", "small", 8, "forward+backward"),
        ("light_conv", "small", 1, "forward"),
        ("light_conv", "base", 8, "forward"),
        ("encoder", "base", 8, "forward"),
    ]
