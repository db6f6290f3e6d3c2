import json

import pytest

from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForSequenceClassification


@pytest.fixture
def flags(tmp_path):
    words = [f"word{number}" for number in range(20)]
    folder = tmp_path / "predecessors" / "SST-2"
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *words])}
    tokenizer_from_vocabulary(vocabulary).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 32}
    config = EncoderConfig(**sizes, vocab_size=len(vocabulary), plan="4*(attention ffn)", pooler=True)
    EncoderForSequenceClassification(config).save_pretrained(folder)
    glue = tmp_path / "glue" / "SST-2"
    glue.mkdir(parents=True)
    for name in ("train.tsv", "dev.tsv"):
        rows = [f"{' '.join(words[: 3 + row % 10])} \t{row % 2}" for row in range(32)]
        (glue / name).write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    given = ["--predecessor_dir", tmp_path / "predecessors", "--glue_dir", tmp_path / "glue", "--tasks", "SST-2"]
    given += ["--output_dir", tmp_path / "out", "--successor_blocks", 2, "--seeds", 1]
    run = ["--max_seq_length", 16, "--num_train_epochs", 1, "--per_device_train_batch_size", 8, "--use_cpu"]
    run += ["--measure_seconds", 0.05, "--report_to", "none", "--disable_tqdm", "true"]
    return [str(part) for part in given], [str(part) for part in run]


def test_runs_are_done_once_and_reported(import_benchmark, flags, tmp_path, capsys):
    given, run = flags
    benchmark = import_benchmark("theseus")
    benchmark.main([*given, "--methods", "theseus", "finetuned", "--", *run])
    benchmark.main([*given, "--methods", "theseus", "distilled", "convbert", "--", *run])
    lines = [json.loads(line) for line in (tmp_path / "out" / "runs.jsonl").read_text().splitlines()]
    assert [line["method"] for line in lines] == ["theseus", "finetuned", "distilled", "convbert"]
    assert {line["steps"] for line in lines} == {4} and {line["replacing_steps"] for line in lines} == {2}
    assert lines[0]["predecessor_score"] is not None and lines[1]["predecessor_score"] is None
    assert lines[1]["state_mb"] > lines[0]["state_mb"], "with embeddings and head"
    assert not list((tmp_path / "out").rglob("checkpoint-*"))
    capsys.readouterr()
    benchmark.main(["--report", "--output_dir", str(tmp_path / "out")])
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| | SST-2, accuracy | mean |")
    assert [row.split("|")[1].strip() for row in table[2:7]] == [
        "predecessor",
        *(benchmark.METHODS[name][0] for name in ("theseus", "finetuned", "distilled", "convbert")),
    ]
