import pytest

from bertkernels.bench.plot import THEMES, draw, markup
from bertkernels.errors import InputError


@pytest.fixture
def rows(make_row):
    times = {"Hugging Face": 1000, "Hugging Face, compiled": 400, "bertkernels (cpu)": 10, "copy of the same bytes": 5}
    return [make_row(peer, time) for peer, time in times.items()]


def test_draws_for_light_and_for_dark_pages_and_the_same_each_time(rows, tmp_path):
    light, dark = draw(rows, tmp_path / "pictures" / "speed.svg")
    assert (light.name, dark.name) == ("speed.svg", "speed-dark.svg")
    first = light.read_text(), dark.read_text()
    for theme, text in zip(("light", "dark"), first, strict=True):
        assert "light_conv base" in text and "Hugging Face, compiled" in text
        assert THEMES[theme]["ours"] in text and THEMES[theme]["ink"] in text
        assert THEMES["dark" if theme == "light" else "light"]["ink"] not in text
        assert "<dc:date>" not in text
    draw(rows, light)
    assert (light.read_text(), dark.read_text()) == first


def test_draws_png_too(rows, tmp_path):
    for path in draw(rows, tmp_path / "speed.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_machines_are_told_apart_where_there_are_several(rows, make_row, tmp_path):
    other = [row | {"device_name": "Other CPU"} for row in rows]
    text = draw([*rows, *other], tmp_path / "speed.svg")[0].read_text()
    assert "light_conv base, Some CPU, 2 cores" in text and "light_conv base, Other CPU" in text


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_marks_stand_out_from_the_page(theme):
    """Contrast as the Web Content Accessibility Guidelines count it: 4.5 for text, 3 for marks."""
    colors = THEMES[theme]
    assert _contrast(colors["ink"], colors["page"]) > 4.5
    assert _contrast(colors["ours"], colors["page"]) > 3 < _contrast(colors["others"], colors["page"])


def _contrast(a: str, b: str) -> float:
    darker, lighter = sorted(map(_luminance, (a, b)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_markup_names_both():
    assert 'srcset="a-dark.svg"' in markup("a.svg", "a-dark.svg") and 'src="a.svg"' in markup("a.svg", "a-dark.svg")


def test_nothing_to_compare_with(make_row, tmp_path):
    with pytest.raises(InputError, match="nothing to plot"):
        draw([make_row("bertkernels (cpu)", 1)], tmp_path / "speed.svg")


def test_another_ending(rows, tmp_path):
    with pytest.raises(InputError, match=r"speed.txt: expected .* .svg or .png"):
        draw(rows, tmp_path / "speed.txt")
