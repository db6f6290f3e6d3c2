"""`--cuda_graphs`: the same training through recorded steps; without a GPU everything around the graph itself."""

import json

import pytest
import torch

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.nn import static_shapes
from bertkernels.training import graphed_steps, resumable_trainer
from bertkernels.training import pretrain as pretrain_module
from bertkernels.training.graphed_steps import GraphedSteps, check_cuda_graphs
from bertkernels.training.pretrain import pretrain
from bertkernels.training.training_arguments import PretrainRunArguments
from tests.graphs import stand_in

ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


# -- what it does not go with ------------------------------------------------------------------------------------------


def run_arguments(tmp_path, **changes):
    settings = {"use_cpu": True, "report_to": "none", "cuda_graphs": True} | changes
    return PretrainRunArguments(output_dir=str(tmp_path / "run"), **settings)


def test_without_a_gpu_it_is_one_sentence_before_any_work(tiny_text, tmp_path, capsys):
    flags = ["--preset", "convbert-small", "--train_file", str(tiny_text), "--output_dir", str(tmp_path / "run")]
    assert main(["pretrain", *flags, "--use_cpu", "--cuda_graphs"]) == 2
    shown = capsys.readouterr().err
    assert shown == "bertkernels pretrain: --cuda_graphs needs a CUDA GPU, this run is on cpu\n"
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()


def test_finetuning_says_so_too(tmp_path, capsys):
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    flags = ["--preset", "electra-small", "--vocab_file", "none.txt", "--train_file", str(tmp_path / "rows.csv")]
    run = ["--output_dir", str(tmp_path / "run"), "--use_cpu", "--cuda_graphs"]
    assert main(["finetune", *flags, *run]) == 2
    assert "--cuda_graphs needs a CUDA GPU, this run is on cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradient_checkpointing": True}, "--gradient_checkpointing, which"),
        ({"torch_compile": True}, "--torch_compile, which has CUDA graphs of its own"),
        ({"torch_empty_cache_steps": 5}, "--torch_empty_cache_steps"),
        ({"fp16": True}, "--fp16, whose loss scale changes: use --bf16"),
    ],
)
def test_clashes(changes, message, tmp_path, monkeypatch):
    fp16 = changes.pop("fp16", False)
    run = run_arguments(tmp_path, **changes)
    run.fp16 = fp16  # transformers takes it with a GPU only
    monkeypatch.setattr(PretrainRunArguments, "device", torch.device("cuda"))
    with pytest.raises(InputError, match="--cuda_graphs does not go with " + message):
        check_cuda_graphs(run)


def test_nothing_is_checked_where_it_is_not_asked_for(tmp_path):
    check_cuda_graphs(run_arguments(tmp_path, cuda_graphs=False, gradient_checkpointing=True))


# -- the steps ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Takes the CPU for a GPU."""
    monkeypatch.setattr(graphed_steps, "Recording", stand_in.EagerRecording)
    monkeypatch.setattr(stand_in.EagerRecording, "made", 0)
    monkeypatch.setattr(stand_in, "tracked", [])
    monkeypatch.setattr(pretrain_module, "check_cuda_graphs", lambda run: None)
    trainer_init = resumable_trainer.ResumableTrainer.__init__

    def init(self, *args, **kwargs):
        trainer_init(self, *args, **kwargs)
        stand_in.tracked[:] = self.model.parameters()

    monkeypatch.setattr(resumable_trainer.ResumableTrainer, "__init__", init)


class Sums:
    def __init__(self):
        self.total = torch.zeros(())

    def add(self, values):
        self.total = self.total + values["seen"]


def test_steps_of_all_kinds_add_up_to_the_same_gradients(on_a_gpu):
    """Zeroed and accumulated gradients, several shapes, a parameter that no step uses."""
    torch.manual_seed(0)
    plain, graphed = (torch.nn.Linear(4, 1) for _ in range(2))
    graphed.load_state_dict(plain.state_dict())
    for module in (plain, graphed):
        module.unused = torch.nn.Parameter(torch.ones(2))
    stand_in.tracked[:] = graphed.parameters()
    steps = GraphedSteps(torch.device("cpu"))
    sums = {plain: Sums(), graphed: Sums()}

    def step_of(module):
        def step(inputs, into):
            loss = module(inputs["x"]).square().sum()
            loss.backward()
            into.add({"seen": inputs["x"].sum()})
            return loss.detach()

        return step

    losses = []
    for number in range(24):
        inputs = {"x": torch.randn(3 if number % 4 else 5, 4)}
        if number % 3 == 0:
            for module in (plain, graphed):
                module.zero_grad(set_to_none=True)
        expected = step_of(plain)(inputs, sums[plain])
        losses.append(steps.run(step_of(graphed), graphed, inputs, sums[graphed]))
        assert torch.equal(losses[-1], expected)
        for name in ("weight", "bias"):
            torch.testing.assert_close(getattr(graphed, name).grad, getattr(plain, name).grad)
        assert graphed.unused.grad is None  # an optimizer would let it decay
    assert stand_in.EagerRecording.made == 2
    assert len({loss.data_ptr() for loss in losses}) == len(losses)
    torch.testing.assert_close(sums[graphed].total, sums[plain].total)


def test_variants_have_graphs_of_their_own(on_a_gpu):
    model = torch.nn.Linear(4, 1)
    steps, inputs = GraphedSteps(torch.device("cpu")), {"x": torch.ones(2, 4)}

    def step_of(divisor):
        return lambda inputs, into: (model(inputs["x"]).sum() / divisor).detach()

    for divisor in (1, 2) * 6:
        found = steps.run(step_of(divisor), model, inputs, Sums(), variant=divisor)
        assert torch.equal(found, (model(inputs["x"]).sum() / divisor).detach())
    assert stand_in.EagerRecording.made == 2


@pytest.mark.parametrize("objective", ["electra", "masked_lm"])
def test_pretraining_comes_out_the_same(objective, on_a_gpu, tiny_pretraining, tmp_path):
    settings = {"gradient_accumulation_steps": 2, "max_steps": 6, "logging_steps": 2, "save_strategy": "no"}
    changes = {"objective": objective, "pad_to_max_length": True}
    if objective == "masked_lm":
        changes["generator_size"] = None
    logs, weights = [], []
    for cuda_graphs in (False, True):
        arguments, run = tiny_pretraining(tmp_path / f"run-{cuda_graphs}", **settings)
        for name, value in changes.items():
            setattr(arguments, name, value)
        arguments.pad_to_max_length = not cuda_graphs  # it goes with the flag
        run.cuda_graphs = cuda_graphs
        with static_shapes():  # dropout is a function of a token's place, which packing changes
            result = pretrain(arguments, run)
        logs.append([entry for entry in result.log if "loss" in entry])
        weights.append((result.output_dir / "model.safetensors").read_bytes())
    assert stand_in.EagerRecording.made == 1
    assert len(logs[0]) == 3
    times = {"grad_norm", "tokens_per_second", "tflops", "mfu"}
    for plain, graphed in zip(*logs, strict=True):
        assert {name: plain[name] for name in plain if name not in times} == {
            name: graphed[name] for name in graphed if name not in times
        }
        assert graphed["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-5)
    assert weights[0] == weights[1]


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@ON_A_GPU
@pytest.mark.parametrize("bf16", [False, True])
def test_recorded_training_follows_the_eager_one(bf16, tiny_pretraining, tmp_path):
    """Without dropout, step by step; lengths change from batch to batch, and gradients are accumulated."""
    config = {
        "vocab_size": 200,
        "plan": "(mixed ffn[groups=2]) (attention ffn)",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    losses = []
    for cuda_graphs in (False, True):
        settings = {"use_cpu": False, "bf16": bf16, "logging_steps": 1, "save_strategy": "no", "max_steps": 12}
        arguments, run = tiny_pretraining(tmp_path / f"run-{cuda_graphs}", **settings)
        arguments.preset, arguments.config_file, arguments.objective = None, str(path), "masked_lm"
        for name in ("plan", "hidden_size", "embedding_size", "num_attention_heads", "intermediate_size"):
            setattr(arguments, name, None)
        arguments.generator_size = None
        run.cuda_graphs = cuda_graphs
        losses.append([entry["loss"] for entry in pretrain(arguments, run).log if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], rel=2e-2 if bf16 else 1e-4)


@pytest.mark.gpu
@ON_A_GPU
def test_dropout_draws_anew_in_each_replay():
    from bertkernels import ops
    from bertkernels.graphs import Recording

    x = torch.ones(64, 128, device="cuda")
    weight, bias = torch.ones(128, device="cuda"), torch.zeros(128, device="cuda")

    def run():
        return ops.residual_norm(x, x, weight, bias, dropout_p=0.5)

    Recording.warm_up(run)
    recording = Recording(run)
    outputs = []
    for _ in range(3):
        recording.replay()
        outputs.append(recording.results.clone())
    assert not torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[1], outputs[2])
