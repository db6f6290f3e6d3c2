"""Two processes that each hold half of the weights (`--fsdp`) train as two that hold all."""

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.models.electra import ElectraForPreTraining
from bertkernels.models.heads import EncoderForReplacedTokenDetection
from bertkernels.training.checkpoints import checkpoints, damage

_STEPS = {"max_steps": 8, "logging_steps": 2, "save_steps": 4, "dataloader_drop_last": True}


def test_pretraining_saves_whole_models_and_resumes_exactly(tiny_pretraining, two_processes, losses, tmp_path):
    arguments, _ = tiny_pretraining(tmp_path / "unused")
    settings = {
        **vars(arguments),
        **_STEPS,
        "per_device_train_batch_size": 4,
        "optimizer": "bert_adam",  # torch's own is a simpler case
        "layerwise_lr_decay": 0.9,
    }
    two_processes("pretrain", {**settings, "output_dir": tmp_path / "plain"})
    two_processes("pretrain", {**settings, "output_dir": tmp_path / "sharded", "fsdp": "full_shard"})

    plain, sharded = losses(tmp_path / "plain"), losses(tmp_path / "sharded")
    assert [entry["step"] for entry in sharded] == [2, 4, 6, 8]
    for expected, found in zip(plain, sharded, strict=True):
        for name in ("loss", "generator_loss", "discriminator_loss", "grad_norm", "rtd_accuracy", "padding_share"):
            assert found[name] == pytest.approx(expected[name], abs=1e-4), (name, found["step"])

    assert [path.name for path in checkpoints(tmp_path / "sharded")] == ["checkpoint-4", "checkpoint-8"]
    assert not any(damage(path) for path in checkpoints(tmp_path / "sharded"))
    assert list((tmp_path / "sharded" / "checkpoint-8").glob("pytorch_model_fsdp*")), "it was not sharded"
    expected = ElectraForPreTraining.from_pretrained(tmp_path / "plain")
    for folder in ("sharded", "sharded/checkpoint-8"):
        found, report = ElectraForPreTraining.from_pretrained(tmp_path / folder, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
        for name, weight in expected.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], weight, atol=1e-4, rtol=0, msg=name)
    alone, report = EncoderForReplacedTokenDetection.from_pretrained(
        tmp_path / "sharded" / "discriminator", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert all(torch.equal(w, found.discriminator.state_dict()[name]) for name, w in alone.state_dict().items())

    before = losses(tmp_path / "sharded"), load_file(tmp_path / "sharded" / "model.safetensors")
    resume = str(tmp_path / "sharded" / "checkpoint-4")
    again = {**settings, "output_dir": tmp_path / "sharded", "fsdp": "full_shard", "resume_from_checkpoint": resume}
    two_processes("pretrain", again)
    assert losses(tmp_path / "sharded") == before[0]
    after = load_file(tmp_path / "sharded" / "model.safetensors")
    assert all(torch.equal(weight, after[name]) for name, weight in before[1].items())
