"""Launch configurations: what ships for a device wins, else a rule; sizes of batches play no part."""

import json

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

GPU = torch.device("cuda", 0)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    from bertkernels.kernels import light_conv, tuning

    def ship(kernel, entries):
        (tmp_path / f"{kernel}.json").write_text(json.dumps({"Some GPU": entries}))
        monkeypatch.setattr(tuning, "FOLDER", tmp_path)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
        light_conv.configuration.cache_clear()

    yield ship
    light_conv.configuration.cache_clear()


def test_shipped_configuration_wins_for_its_key_alone(shipped):
    from bertkernels.kernels.light_conv import configuration

    shipped("light_conv_fwd", {"D=64,K=9,bfloat16": {"GROUP": 2, "num_warps": 4}})
    chosen = configuration("light_conv_fwd", GPU, torch.bfloat16, 64, 9)
    assert (chosen["GROUP"], chosen["num_warps"]) == (2, 4)
    rule = configuration("light_conv_fwd", torch.device("cpu"), torch.bfloat16, 64, 9)
    assert chosen == {**rule, "GROUP": 2, "num_warps": 4}
    assert configuration("light_conv_bwd", GPU, torch.bfloat16, 64, 9)["num_warps"] == 1
    assert configuration("light_conv_fwd", GPU, torch.float16, 64, 9)["num_warps"] == 1


@pytest.mark.parametrize("width", [1, 3, 8, 20, 24, 32, 37, 48, 64, 80, 96, 100, 128, 512])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["light_conv_fwd", "light_conv_bwd"])
def test_chunks_cover_the_head_with_little_waste(kernel, dtype, width):
    from bertkernels.kernels.light_conv import configuration

    chunk = configuration(kernel, torch.device("cpu"), dtype, width, 9)["CHUNK"]
    assert chunk & (chunk - 1) == 0
    covered = -(-width // chunk) * chunk
    assert covered < width + 8
    if width % 8 == 0:
        assert covered == width
