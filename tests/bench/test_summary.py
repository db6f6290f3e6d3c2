import pytest

from bertkernels.bench.summary import main_cases, summary


@pytest.fixture
def rows(make_row):
    def case(times: dict[str, float], **fields) -> list[dict]:
        return [make_row(peer, time, **fields) for peer, time in times.items()]

    ours, copy, compiled = "bertkernels (cpu)", "copy of the same bytes", "Hugging Face, compiled"
    padded = {"op": "padded_batch", "text": "RTE", "batch": 32}
    return [
        *case({"Hugging Face": 12_000, compiled: 3_000, ours: 150, copy: 30}),
        *case({"Hugging Face": 30_000, ours: 33_000, copy: 100}, mode="forward+backward"),
        *case({"Hugging Face": 30_000, ours: 200, copy: 100}, mode="backward"),
        *case({"Hugging Face": 100, ours: 125}, tokens=512, batch=2),
        *case({"Hugging Face": 100, ours: 125}, size="medium-small"),
        *case({"Hugging Face": 300_000, "patched, unpadded": 100_000, "its own matrix products": 80_000}, **padded),
    ]


def test_a_line_has_both_modes_and_the_lost_one_is_marked(rows):
    lines = summary(rows).splitlines()
    assert [line for line in lines if line.startswith(("| `", "| Conv"))] == [
        "| `light_conv` | base | 150 µs | 80.0× | 20.0× | 5.00 | 33.0 ms ▼ | 0.91× | – | 330 |",
        "| ConvBERT RTE B32·T128 | base | 100 ms | 3.00× | – | 1.25 | – | – | – | – |",
    ]
    assert "Of 6 measured cases (op, size, shape and mode) another way of the same work is faster in 3." in lines


def test_says_where_all_results_are(rows):
    assert "in 3; all of them, with every peer, are in [docs/all.md](docs/all.md)." in summary(
        rows, None, "docs/all.md"
    )
    assert summary(rows, "PICTURE").startswith("PICTURE\n\n### Some CPU")
    assert "ours is the fastest in all." in summary(rows[:4])


def test_says_that_no_gpu_was_measured(rows, make_row):
    assert summary(rows).endswith("\n\nNot measured on a GPU yet.\n")
    on_gpu = [
        make_row(peer, time, device="cuda", device_name="H200", threads=None, batch=32, tokens=512, dtype="bfloat16")
        for peer, time in {"Hugging Face": 500, "bertkernels (cuda)": 5}.items()
    ]
    text = summary([*rows, *on_gpu])
    assert "Not measured on a GPU yet." not in text
    assert "### H200, bfloat16" in text and "on 32 sequences of 512 tokens" in text
    assert "| `light_conv` | base | 5.00 µs | 100× |" in text


def test_main_cases_are_few(rows):
    assert [(case.row["op"], case.row["mode"]) for case in main_cases(rows)] == [
        ("light_conv", "forward"),
        ("light_conv", "forward+backward"),
        ("padded_batch", "forward"),
    ]
