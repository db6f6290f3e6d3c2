"""Tracked states: what is in the files, going on after a kill, summaries."""

import json
import signal
import textwrap

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open

from bertkernels.analysis.track import read_track, track_states
from bertkernels.analysis.track_summary import summarize_track
from bertkernels.errors import InputError
from tests import forked
from tests.analysis.stand_in import StandIn

PLACES = [(0, "input"), (0, "mlp"), (1, "encoder")]
NAMES = ["0.input", "0.mlp", "1.encoder"]


class Words:
    """The part of a tokenizer that tracking asks."""

    def convert_ids_to_tokens(self, ids):
        return [f"word{number}" for number in ids]


def rows(count=11):
    return [{"input_ids": [(7 * row + i) % 50 for i in range(1 + row % 5)]} for row in range(count)]


def collate(examples):
    longest = max(len(row["input_ids"]) for row in examples)
    ids = [row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in examples]
    mask = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in examples]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def track(folder, layered=None, examples=None, places=PLACES, **settings):
    settings = {"batch_size": 2, "shard_rows": 4} | settings
    return track_states(layered or StandIn(), examples or rows(), collate, Words(), places, folder, **settings)


def expected(layered):
    """Each row alone through the model, without padding."""
    found = {name: [] for name in NAMES}
    layered.model.eval()
    for row in rows():
        with torch.no_grad():
            layered.model(**collate([row]))
        seen = layered.model.seen
        for name, x in zip(NAMES, (seen[0, "encoder"][0], seen[0, "mlp"][1], seen[1, "encoder"][1]), strict=True):
            found[name].append(x[0])
    return {name: torch.cat(parts) for name, parts in found.items()}


@pytest.mark.parametrize("shard_format", ["arrow", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_real_token_of_every_row(shard_format, dtype, tmp_path):
    layered = StandIn()
    track(tmp_path / "states", layered, shard_format=shard_format, dtype=dtype)
    read = list(read_track(tmp_path / "states"))
    assert torch.cat([part.row for part in read]).tolist() == list(range(11))
    assert torch.cat([part.lengths for part in read]).tolist() == [len(row["input_ids"]) for row in rows()]
    ids = [number for row in rows() for number in row["input_ids"]]
    assert torch.cat([part.input_ids for part in read]).tolist() == ids
    assert [token for part in read for token in part.tokens] == [f"word{number}" for number in ids]
    for name, states in expected(layered).items():
        found = torch.cat([part.states[name] for part in read])
        assert found.dtype == dtype
        tolerance = 1e-6 if dtype == torch.float32 else 1e-3
        torch.testing.assert_close(found.float(), states, rtol=tolerance, atol=tolerance)


def test_files_open_with_their_libraries(tmp_path):
    track(tmp_path / "arrow")
    with pa.OSFile(str(tmp_path / "arrow/states-00001.arrow")) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert table["row"].to_pylist() == [4, 5, 6, 7]
    assert table["tokens"].to_pylist()[1] == ["word35"]
    assert np.array(table["0.mlp"].to_pylist()[0]).shape == (5, 6)
    track(tmp_path / "safetensors", shard_format="safetensors")
    with safe_open(tmp_path / "safetensors/states-00001.safetensors", "pt") as file:
        assert file.get_tensor("row").tolist() == [4, 5, 6, 7]
        assert file.get_tensor("0.mlp").shape == (5 + 1 + 2 + 3, 6)
        assert len(json.loads(file.metadata()["tokens"])) == 11


def test_goes_on_after_a_kill(tmp_path):
    """Killed within the second shard: the first is kept, and the end is the same as of a run that was left alone."""
    code = f"""
        import os, signal
        from pathlib import Path
        from tests.analysis.stand_in import StandInModel
        from tests.analysis.test_track import track
        forward, calls = StandInModel.forward, []
        def dying(*arguments, **named):
            calls.append(1)
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return forward(*arguments, **named)
        StandInModel.forward = dying
        track(Path({str(tmp_path / "killed")!r}))
    """
    killed = forked.run(textwrap.dedent(code))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in (tmp_path / "killed").glob("states*")) == ["states-00000.arrow"]
    with pytest.raises(InputError, match="no finished hidden states"):
        list(read_track(tmp_path / "killed"))

    first = (tmp_path / "killed/states-00000.arrow").stat().st_mtime_ns
    track(tmp_path / "killed")
    assert (tmp_path / "killed/states-00000.arrow").stat().st_mtime_ns == first
    track(tmp_path / "whole")
    assert _contents(tmp_path / "killed") == _contents(tmp_path / "whole")


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_other_settings_are_not_gone_on_with(tmp_path):
    track(tmp_path / "states")
    for change, named in [
        ({"examples": rows(10)}, "other rows"),
        ({"places": PLACES[:2]}, "other states"),
        ({"shard_format": "safetensors"}, "other format"),
        ({"batch_size": 3}, "other batch_size"),
        ({"layered": StandIn(type(StandIn().model)(seed=1))}, "other weights"),
    ]:
        with pytest.raises(InputError, match=named):
            track(tmp_path / "states", **change)


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="one of arrow, safetensors, got 'pickle'"):
        track(tmp_path / "states", shard_format="pickle")
    with pytest.raises(InputError, match="float32 or float16"):
        track(tmp_path / "states", dtype=torch.bfloat16)
    with pytest.raises(InputError, match="needs rows and sites"):
        track(tmp_path / "states", places=[])
    assert not (tmp_path / "states").exists()
    (tmp_path / "else").mkdir()
    (tmp_path / "else/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        track(tmp_path / "else")
    with pytest.raises(InputError, match="is a file"):
        track(tmp_path / "else/notes.txt")


def test_summary(tmp_path):
    layered = StandIn()
    track(tmp_path / "states", layered)
    summary = summarize_track(tmp_path / "states")
    states = expected(layered)
    assert summary.states == NAMES and summary.tokens == len(states["0.mlp"])
    for number, name in enumerate(NAMES):
        x = states[name]
        assert summary.mean_length[number] == pytest.approx(x.norm(dim=1).mean().item(), rel=1e-5)
        cosines = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1)
        others = ~torch.eye(len(x), dtype=torch.bool)
        assert summary.cone_size[number] == pytest.approx(cosines[others].mean().item(), abs=1e-5)
    both = torch.nn.functional.cosine_similarity(states["0.input"], states["0.mlp"]).mean().item()
    assert summary.cosine[0][1] == summary.cosine[1][0] == pytest.approx(both, abs=1e-5)
    assert summary.cka[1][1] == pytest.approx(1) and summary.cka[0][2] < 0.99
    assert json.loads((tmp_path / "states/summary.json").read_text())["cka"] == summary.cka
