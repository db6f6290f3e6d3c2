"""Files of tuned configurations: what stands in them, and what launches make of them."""

import json

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from bertkernels.errors import InputError  # noqa: E402
from bertkernels.kernels import tuning  # noqa: E402
from bertkernels.tune import store  # noqa: E402

KEY, OTHER = "D=64,K=9,bfloat16", "D=48,K=9,bfloat16"


def test_one_entry_is_replaced_and_all_others_stay(tmp_path):
    store.keep(tmp_path, "a", "GPU 2", KEY, {"GROUP": 4, "CHUNK": 8})
    store.keep(tmp_path, "a", "GPU 1", OTHER, {"GROUP": 1})
    store.keep(tmp_path, "a", "GPU 2", OTHER, {"GROUP": 3})
    store.keep(tmp_path, "a", "GPU 2", KEY, {"GROUP": 2})
    assert tuning.read(tmp_path / "a.json") == {
        "GPU 1": {OTHER: {"GROUP": 1}},
        "GPU 2": {OTHER: {"GROUP": 3}, KEY: {"GROUP": 2}},
    }
    store.keep(tmp_path, "a", "GPU 1", OTHER, None)
    assert list(tuning.read(tmp_path / "a.json")) == ["GPU 2"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_same_entries_are_the_same_file(tmp_path):
    entries = [(KEY, {"GROUP": 4, "CHUNK": 8}), (OTHER, {"num_warps": 1})]
    for name, order in (("a", entries), ("b", entries[::-1])):
        for key, configuration in order:
            store.keep(tmp_path, name, "GPU", key, dict(sorted(configuration.items(), reverse=name == "b")))
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be written: "):
        store.check(tmp_path / "file", ["a"])


@pytest.mark.parametrize("text", ["", "[]", '{"GPU": 1}', '{"GPU": {"D=1": 2}}'])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    store.check(tmp_path, ["b"])
    with pytest.raises(InputError, match=r"a\.json: "):
        store.check(tmp_path, ["a", "b"])


def test_the_package_is_the_default_unless_it_cannot_be_written(monkeypatch, tmp_path):
    assert store.default_folder() == tuning.FOLDER
    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "FOLDER", tmp_path / "nowhere")
    assert store.default_folder() == tmp_path / "tuned"


def test_launches_take_the_users_configuration_before_the_packages(monkeypatch, tmp_path):
    from bertkernels.kernels.light_conv import configuration

    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "FOLDER", tmp_path / "package")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    for folder, key, warps in (("package", KEY, 2), ("package", OTHER, 2), ("tuned", KEY, 4)):
        (tmp_path / folder).mkdir(exist_ok=True)
        store.keep(tmp_path / folder, "light_conv_fwd", "GPU", key, {"num_warps": warps})
    tuning.forget()
    try:
        chosen = [configuration("light_conv_fwd", torch.device("cuda", 0), torch.bfloat16, D, 9) for D in (64, 48, 32)]
        assert [configuration["num_warps"] for configuration in chosen] == [4, 2, 1]
    finally:
        tuning.forget()


def test_every_shipped_file_is_as_it_would_be_written(tmp_path):
    for path in tuning.FOLDER.glob("*.json"):
        for device, entries in tuning.read(path).items():
            for key, configuration in entries.items():
                store.keep(tmp_path, path.stem, device, key, configuration)
        written = tmp_path / path.name
        assert json.loads(path.read_text()) == (json.loads(written.read_text()) if written.exists() else {})
