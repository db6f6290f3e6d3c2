import time

import pytest
import torch

from bertkernels.errors import InputError
from bertkernels.training.pretrain import pretrain
from bertkernels.training.throughput import Stopwatch, batch_tokens, peak_rate, training_operations


def test_operations_are_three_forward_passes_and_leave_the_random_state_alone():
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 4))
    before = torch.random.get_rng_state()
    x = torch.ones(5, 8)
    found = training_operations(lambda: model(x), x.device)
    assert found == 3 * 2 * 5 * (8 * 16 + 16 * 4)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_tokens_of_a_batch():
    found = batch_tokens({"attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])})
    assert {name: value.item() for name, value in found.items()} == {"tokens": 3, "positions": 6}
    assert batch_tokens({"input_ids": torch.zeros(2, 3)}) == {}


def test_the_watch_stands_still_in_pauses():
    watch = Stopwatch()
    watch.resume()
    watch.pause()
    before = watch.read()
    time.sleep(0.02)
    assert watch.read() == before
    watch.resume()
    time.sleep(0.02)
    assert watch.read() >= before + 0.02
    watch.reset()
    assert watch.read() < 0.02


def test_a_square_product_has_a_plausible_rate():
    assert 1e8 < peak_rate(torch.device("cpu"), torch.float32) < 1e15


def test_the_log_says_how_fast_and_token_batches_train(tiny_pretraining, losses, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=10, tokens_per_batch=256)
    entries = [entry for entry in pretrain(arguments, run).log if "loss" in entry]
    assert [entry["step"] for entry in entries] == [5, 10]
    for entry in entries:
        assert entry["tokens_per_second"] > 0 and 0 < entry["mfu"] < 1 and entry["tflops"] > 0
        assert 0 <= entry["padding_share"] < 1


def test_token_batches_resume_exactly(tiny_pretraining, losses, tmp_path):
    settings = {"tokens_per_batch": 256, "save_steps": 5, "logging_steps": 4}
    pretrain(*tiny_pretraining(tmp_path / "whole", max_steps=12, **settings))
    pretrain(*tiny_pretraining(tmp_path / "whole2", max_steps=12, **settings))
    assert losses(tmp_path / "whole") == losses(tmp_path / "whole2")
    again = tiny_pretraining(
        tmp_path / "whole2", max_steps=12, **settings, resume_from_checkpoint=str(tmp_path / "whole2" / "checkpoint-5")
    )
    pretrain(*again)
    assert losses(tmp_path / "whole") == losses(tmp_path / "whole2")


def test_a_token_budget_that_cannot_be_kept(tiny_pretraining, tmp_path):
    with pytest.raises(InputError, match="--tokens_per_batch 40: 40 tokens a batch are fewer than twice the longest"):
        pretrain(*tiny_pretraining(tmp_path / "run", tokens_per_batch=40))
