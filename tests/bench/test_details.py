from bertkernels.bench.details import details


def test_everything_is_there_with_the_lost_cases_first(make_row):
    rates = {"operations": 5_000_000_000, "percent_of_matrix_rate": 91.5, "percent_of_copy_bandwidth": 40}
    rows = [
        make_row("Hugging Face", 100, peak_bytes=8_000_000),
        make_row("bertkernels (cpu)", 125, peak_bytes=2_000_000, bytes=3_000_000, **rates),
        make_row("Hugging Face", 100, tokens=512, mode="backward"),
        make_row("bertkernels (cpu)", 50, tokens=512, mode="backward"),
    ]
    lines = details(rows).splitlines()
    lost = lines.index("#### Where another way is faster")
    assert lines[lost + 4] == (
        "| `light_conv` | base | B8·T128 | forward | 125 µs | Hugging Face | 100 µs | 1.25× as long |"
    )
    assert lines[lost + 5] == "" and lines.index("#### light_conv") > lost
    assert "| base | B8·T512 | backward | 100 µs | **50.0 µs (2.00×)** | – |" in lines
    numbers = "3.00 | 40.0 | 5.00 | 91.5 | 2.0 MB | 8.0 MB |"
    assert f"| base | B8·T128 | forward | 112 µs | 125 µs | 138 µs | {numbers}" in lines
    assert lines[-1] == "Not measured on a GPU yet."


def test_says_where_nothing_is_lost_and_why_a_peer_is_missing(make_row):
    left_out = {"Hugging Face, compiled": "no compiler here"}
    rows = [make_row("Hugging Face", 100, left_out=left_out), make_row("bertkernels (cpu)", 50, left_out=left_out)]
    text = details(rows)
    assert "Nowhere in what was measured." in text
    assert "- Hugging Face, compiled is missing in some tables: no compiler here" in text
