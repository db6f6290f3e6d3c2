"""The example of a whole analysis, as far as it can be read without its model."""

from pathlib import Path

from bertkernels.cli import analyze

_FILE = Path(__file__).parents[2] / "docs/examples/analysis_bert6_sst2.yaml"


def test_flags_of_the_example_are_known():
    folder, planned = analyze._read_plan(_FILE, ["--model_name_or_path", "model", "--glue_dir", "glue"])
    assert folder == Path("analysis-bert6-sst2")
    for verb, argv in planned:
        options, _, arguments, run = analyze._parse(verb, [*argv, "--use_cpu", "true"])
        assert arguments.model_name_or_path == "model" and Path(run.output_dir).parent == folder
        assert run.learning_rate == 2e-5 and arguments.max_seq_length == 64
    names = [Path(argv[argv.index("--output_dir") + 1]).name for _, argv in planned]
    assert len(set(names)) == len(names) and {verb for verb, _ in planned} >= {"swap", "shuffle", "remove", "heads"}
