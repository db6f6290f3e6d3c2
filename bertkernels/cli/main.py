"""The `bertkernels` command: one verb a module, imported only when it is asked for."""

import errno
import importlib
import sys

VERBS = {
    "info": "versions, what was built, what each op runs on and why",
    "bench": "measure the ops and encoders on this machine",
    "tune": "find launch configurations of the Triton kernels for this GPU",
    "demo": "the whole tour in five minutes on built-in data, with a report",
    "convert": "Hugging Face and TensorFlow checkpoints to ours, and back",
    "export": "a model as an ONNX file",
    "prepare": "text into examples for pre-training; checks of GLUE, SQuAD and tagging folders",
    "pretrain": "pre-train any encoder, by ELECTRA or as a masked language model",
    "search": "find the order of an encoder's sub-layers, with weights inherited from a supernet",
    "finetune": "fine-tune an encoder on single sentences or pairs",
    "distill": "distil an encoder into a smaller one, on a task or on text",
    "theseus": "compress a fine-tuned encoder by progressive module replacing",
    "analyze": "swap, shuffle, remove, freeze, replace or mask an encoder's blocks, and probe their linearity",
    "predict": "predictions of a fine-tuned model as files, GLUE's as the leaderboard takes them",
    "submission": "check predictions for GLUE's leaderboard and pack them",
}


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {what}" for verb, what in VERBS.items()]
    return (
        "usage: bertkernels <verb> [options]\n\n" + "\n".join(lines) + "\n\n`bertkernels <verb> --help` lists options."
    )


def main(argv: list[str] | None = None) -> int:
    """Runs one verb. Bad input ends with one sentence on standard error and exit code 2, output that could not be
    written with 1."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    verb, rest = argv[0], argv[1:]
    if verb == "--version":
        from bertkernels.version import __version__

        print(__version__)
        return 0
    if verb not in VERBS:
        print(f"bertkernels: unknown verb {verb!r}; known: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"bertkernels.cli.{verb}")
    from bertkernels.errors import InputError, OutputError

    try:
        return module.run(rest)
    except InputError as error:
        print(f"bertkernels {verb}: {error}", file=sys.stderr)
        return 2
    except OutputError as error:
        print(f"bertkernels {verb}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"bertkernels {verb}: {error.strerror}: {error.filename or 'the output'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
