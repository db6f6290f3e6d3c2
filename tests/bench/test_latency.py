import pytest
import torch

from bertkernels.bench.latency import ENCODER, measure_latency, measure_parts
from bertkernels.bench.plan_costs import rows, table
from bertkernels.bench.timing import Timing
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.cost import forward_flops, parameters
from bertkernels.models.operations import PRODUCTS

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "embedding_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
QUICK = {"rounds": 2, "seconds": 0}


@pytest.mark.parametrize("training", [False, True])
def test_longer_plans_take_longer(training):
    config = EncoderConfig(**SIZES, plan="ffn", pooler=True)
    short, long = (
        measure_latency(plan, config, 2, 32, training=training, rounds=5, seconds=0.2)
        for plan in ("2*(mixed ffn)", "20*(mixed ffn)")
    )
    assert long.p50 > 2 * short.p50 > 0
    assert (short.second is not None) == training
    assert config.plan == "ffn"


def test_every_different_sub_layer_is_timed_once_beside_the_encoder():
    config = EncoderConfig(**SIZES, plan="2*(dynamic_conv ffn) (ffn dynamic_conv[kernel=3])")
    shares = []
    timings = measure_parts(config, 2, 16, **QUICK, on_round=shares.append)
    assert list(timings) == [ENCODER, "dynamic_conv", "ffn", "dynamic_conv[kernel=3]"]
    assert all(timing.p50 > 0 for timing in timings.values())
    assert shares == [0.5, 1.0]


def test_bad_inputs_are_named():
    config = EncoderConfig(**SIZES)
    with pytest.raises(InputError, match="tokens must be at least 1, got 0"):
        measure_latency("ffn", config, 1, 0)
    with pytest.raises(InputError, match="batch must be at least 1, got -1"):
        measure_latency("ffn", config, -1, 4)
    with pytest.raises(InputError, match="sequences of 65 tokens are longer than max_position_embeddings, 64"):
        measure_latency("ffn", config, 1, 65)
    with pytest.raises(InputError, match="unknown sub-layer 'fnn'"):
        measure_latency("fnn", config, 1, 4)


def test_rows_add_up_and_times_are_those_of_all_modules_of_a_kind():
    config = EncoderConfig(**SIZES, plan="(mixed ffn) ffn ffn[width=32]", pooler=True)
    times = {ENCODER: 9e3, "mixed": 2e3, "ffn": 1e3, "ffn[width=32]": 5e2}
    timed = {16: {name: Timing(p50, p50, p50, 1) for name, p50 in times.items()}}
    found = rows(config, [16, 64], PRODUCTS, timed)
    assert [row["part"] for row in found] == ["embeddings", "mixed", "ffn", "ffn[width=32]", "pooler", ENCODER]
    *parts, whole = found
    assert whole["parameters"] == sum(row["parameters"] for row in parts) == parameters(config)
    for tokens in (16, 64):
        assert whole["flops"][tokens] == sum(row["flops"][tokens] for row in parts) == forward_flops(config, tokens)
    assert [row["number"] for row in parts] == [1, 1, 2, 1, 1]
    assert parts[2]["milliseconds"] == {16: 2.0} and whole["milliseconds"] == {16: 9.0}
    assert parts[0]["milliseconds"] == {}

    lines = table(found, batch=8).splitlines()
    assert lines[0].endswith("MFLOPs, 16 tokens  MFLOPs, 64 tokens  ms, 8 × 16 tokens")
    assert lines[3].split() == ["ffn", "2", f"{parts[2]['parameters']:,}", "0.2", "0.8", "2.00"]


def test_measuring_leaves_no_gradients_switched_off():
    measure_latency("ffn", EncoderConfig(**SIZES), 1, 4, **QUICK)
    assert torch.is_grad_enabled()
