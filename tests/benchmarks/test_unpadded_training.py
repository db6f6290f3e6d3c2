import re

from bertkernels.data.tokenizer import SPECIAL_TOKENS

_TINY = {
    "embedding_size": 16,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
}


def test_it_says_how_fast_both_train_on_the_same_batches(import_benchmark, tmp_path, capsys):
    words = [f"word{number}" for number in range(30)]
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, *words]))
    folder = tmp_path / "glue" / "SST-2"
    folder.mkdir(parents=True)
    for name in ("train.tsv", "dev.tsv"):
        rows = [f"{' '.join(words[: 3 + row % 20])} \t{row % 2}" for row in range(64)]
        (folder / name).write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    arguments = ["--glue_dir", tmp_path / "glue", "--vocab_file", tmp_path / "vocab.txt"]
    arguments += ["--rounds", 2, "--steps", 2, "--batch_size", 8]
    import_benchmark("unpadded_training").main([str(argument) for argument in arguments], _TINY)
    head, ours, theirs, ratio = capsys.readouterr().out.splitlines()[-4:]
    assert head.startswith("SST-2, 2 rounds of 2 steps")
    pattern = r" *(.+): [\d,]+ real tokens/s \(padding in its batches (\d+)%, loss 0\.\d+\)"
    (one, its_padding), (other, other_padding) = (re.fullmatch(pattern, line).groups() for line in (ours, theirs))
    assert (one, other) == ("bertkernels", "Hugging Face")
    assert its_padding == other_padding and 0 < int(its_padding) < 100
    assert re.fullmatch(r" *ratio: \d+\.\d\d \(rounds \d+\.\d\d to \d+\.\d\d\)", ratio)
