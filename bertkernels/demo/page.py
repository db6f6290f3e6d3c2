"""The report: one self-contained HTML page from the demo's results."""

from bertkernels.demo import plots
from bertkernels.demo.clock import minutes_text
from bertkernels.demo.commands import PATCH_SNIPPET, shell
from bertkernels.demo.html_parts import card, cards, code, facts, figure, paragraph, table
from bertkernels.demo.style import CSS


def page(results: dict) -> str:
    """The whole page. `results` is what `results.json` holds."""
    sections = (_top, _drop_in, _pretraining, _finetuning, _next, _environment)
    body = "\n".join(section(results) for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>bertkernels demo</title>'
        f"<style>{CSS}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def _top(results: dict) -> str:
    drop_in, pretraining, finetuning = results["drop_in"], results["pretraining"], results["finetuning"]
    forward = drop_in["modes"]["forward"]["times"]
    backward = drop_in["modes"]["forward + backward"]["times"]
    unpad = drop_in["padded"]["times"]
    return (
        "<h1>bertkernels demo</h1>"
        + paragraph(
            f"Measured on {results['date'].replace('T', ' ')} in {minutes_text(results['seconds']['all'])} minutes, "
            f"seed {results['seed']}. Every number on this page comes from this run; they all stand in results.json "
            "beside it.",
            soft=True,
        )
        + cards(
            card(_times(forward, "patched"), "Hugging Face's ConvBERT-small, forward, patched"),
            card(_times(backward, "patched"), "the same, forward and backward"),
            card(_times(unpad, "unpad"), "a padded batch of real sentences, with unpad=True"),
            card(f"{drop_in['difference']['largest']:.0e}", "largest difference of the patched model's outputs"),
            card(
                f"{finetuning['pretrained']['accuracy']:.1%}",
                f"accuracy after {minutes_text(pretraining['train_seconds'])} minutes of pre-training; "
                f"{finetuning['from_scratch']['accuracy']:.1%} without",
            ),
        )
    )


def _drop_in(results: dict) -> str:
    measured = results["drop_in"]
    padded = measured["padded"]
    share = 1 - padded["real_tokens"] / padded["padded_tokens"]
    return (
        "<h2>One line makes Hugging Face's ConvBERT faster</h2>"
        + paragraph(
            f"ConvBERT-small as transformers builds it ({measured['parameters']:,} parameters, random weights), and a "
            f"copy after bertkernels.patch(model), on batches of {measured['batch']} x {measured['length']} tokens "
            f"({_device(measured['device'])}, float32). The outputs differ by at most "
            f"{measured['difference']['largest']:.1e}, where the largest output is "
            f"{measured['difference']['largest_output']:.2g}. {measured['patch_report']}"
        )
        + figure(
            plots.speeds(measured["modes"]),
            "Medians of calls that took turns in one process; the thin lines go from the 20th to the 80th percentile.",
        )
        + table(
            ["", *measured["modes"]],
            _speed_rows(measured["modes"]),
            "Times as fast as Hugging Face's eager model in the same process",
            ours=[number for number, name in enumerate(_names(measured["modes"])) if name.startswith("patched")],
        )
        + _compile_note(measured)
        + table(
            ["", "milliseconds", "times as fast", "a real token moves by"],
            [
                [
                    _label(name),
                    plots.milliseconds(times["p50"]),
                    f"{padded['times']['stock']['p50'] / times['p50']:.2f}",
                    f"{padded['change_by_padding'][name]:.1e}",
                ]
                for name, times in padded["times"].items()
            ],
            f"Forward on {padded['sentences']} real sentences padded to the longest: {share:.0%} of the batch's "
            f"{padded['padded_tokens']:,} positions are padding. Last column: how far outputs of real tokens are from "
            "those of each sentence run alone.",
            ours=[2],
        )
        + paragraph(
            "Hugging Face's convolutions read padding, and patch(model) keeps that, since published weights expect it. "
            "With unpad=True only real tokens are run.",
            soft=True,
        )
    )


def _names(modes: dict[str, dict]) -> list[str]:
    """The models timed in any mode, in their order."""
    return list(dict.fromkeys(name for measured in modes.values() for name in measured["times"]))


def _speed_rows(modes: dict[str, dict]) -> list[list[str]]:
    def cell(times: dict, name: str) -> str:
        return f"{times['stock']['p50'] / times[name]['p50']:.2f}" if name in times else "not measured"

    return [[_label(name), *(cell(mode["times"], name) for mode in modes.values())] for name in _names(modes)]


def _compile_note(measured: dict) -> str:
    seconds = [
        f"{_label(name)} {took:.0f} s ({mode['mode']})"
        for mode in measured["compiled"]["modes"]
        for name, took in mode["compile_seconds"].items()
    ]
    texts = [f"First call with compilation: {'; '.join(seconds)}."] if seconds else []
    texts += [f"{measured['compiled']['note']}."] if measured["compiled"]["note"] else []
    return paragraph(" ".join(texts), soft=True)


def _pretraining(results: dict) -> str:
    trained, text = results["pretraining"], results["text"]
    first, last = trained["log"][0], trained["log"][-1]
    tokens = trained["steps"] * trained["batch"] * trained["length"]
    planned = trained["planned_steps"]
    stopped = (
        f" It was stopped before the {planned:,} planned steps: time was up." if trained["steps"] < planned else ""
    )
    return (
        "<h2>Pre-training a small ConvBERT</h2>"
        + paragraph(
            f"A masked language model on built-in text: {text['words']:,} words of documentation found in the "
            f"installed libraries ({', '.join(text['libraries'])}). The encoder is {trained['plan']}, "
            f"{trained['hidden_size']} wide, with {trained['parameters']:,} parameters. {trained['steps']:,} steps of "
            f"{trained['batch']} x {trained['length']} tokens, at most {tokens:,} tokens in all, took "
            f"{minutes_text(trained['train_seconds'])} minutes." + stopped
        )
        + figure(
            plots.losses(trained["log"]),
            "Words are hidden at random, other ones each time, and the model guesses them from their surroundings.",
        )
        + table(
            ["", f"steps to {first['step']}", f"steps to {last['step']}"],
            [
                [what, _format(first[name], form), _format(last[name], form)]
                for what, name, form in (
                    ("loss", "loss", ".2f"),
                    ("masked words guessed right", "masked_lm_accuracy", ".1%"),
                )
            ],
            "Means over the first and over the last steps that were logged together",
        )
        + paragraph("The same run from the command line:", soft=True)
        + code(shell(trained["command"]))
    )


def _finetuning(results: dict) -> str:
    measured = results["finetuning"]
    pretrained, from_scratch = measured["pretrained"], measured["from_scratch"]
    evaluated = results["text"]["evaluation_paragraphs"]
    gain = pretrained["accuracy"] - from_scratch["accuracy"]
    verdict = (
        f"Pre-training gained {100 * gain:.1f} percentage points."
        if gain > 0
        else f"Pre-training did not help in this run: {100 * gain:+.1f} percentage points."
    )
    return (
        "<h2>Fine-tuning it</h2>"
        + paragraph(
            "The task: which library does this paragraph document? The libraries' own names are masked out, and "
            f"evaluation is on {evaluated:,} paragraphs of other source files. Both runs start from the "
            f"same architecture, see the same {measured['labelled_examples']:,} labelled paragraphs for "
            f"{measured['epochs']} epochs with the same settings, and differ only in what the encoder starts from. "
            + verdict
        )
        + figure(
            plots.accuracies(
                measured["majority_accuracy"],
                from_scratch["accuracy"],
                pretrained["accuracy"],
                {"pretrained": pretrained["log"], "from_scratch": from_scratch["log"]},
            ),
            "Accuracy beside that of always saying the most frequent class.",
        )
        + paragraph(
            "Pre-training read all of the built-in text without labels, the evaluation paragraphs among it. One run "
            "of a model this small on this little: another seed moves these accuracies by some points.",
            soft=True,
        )
        + code(shell(pretrained["command"]))
    )


def _next(results: dict) -> str:
    commands = "".join(
        paragraph(command["what"] + ":") + code(shell(command["argv"])) for command in results["next_commands"]
    )
    return (
        "<h2>Go on from here</h2>"
        + paragraph("Your own Hugging Face model:")
        + code(PATCH_SNIPPET)
        + paragraph("Commands for a shell in the folder that the demo was started in:", soft=True)
        + commands
    )


def _environment(results: dict) -> str:
    environment, seconds = results["environment"], results["seconds"]
    extension = environment["extension"]
    built = f"built, {extension['instruction_set']}" if extension["built"] else f"not there: {extension['reason']}"
    gpus = ", ".join(f"{gpu['name']}, {gpu['memory_gib']} GiB" for gpu in environment["gpus"]) or "none"
    items = [
        ("bertkernels", environment["bertkernels"]),
        ("Python", f"{environment['python']} on {environment['platform']}"),
        ("packages", ", ".join(f"{name} {version or '-'}" for name, version in environment["packages"].items())),
        ("CPU", f"{environment['cpu']['cores']} cores, torch uses {environment['cpu']['torch_threads']} threads"),
        ("GPUs", gpus),
        ("compiled kernels", built),
    ]
    for device, table_ in environment["ops"].items():
        items.append((f"ops on {device}", ", ".join(f"{op}: {entry['runs_on']}" for op, entry in table_.items())))
    items += [(f"not there: {what}", command) for what, command in environment["missing"].items()]
    items.append(("time taken", ", ".join(f"{name} {took:.0f} s" for name, took in seconds.items() if name != "all")))
    return "<h2>Where this was measured</h2>" + facts(items)


def _times(times: dict[str, dict], name: str) -> str:
    return f"{times['stock']['p50'] / times[name]['p50']:.2f}x"


def _label(name: str) -> str:
    return plots.LABELS[name].replace("\n", " ")


def _device(device: str) -> str:
    return "GPU" if device == "cuda" else "CPU"


def _format(value: float, form: str) -> str:
    return format(value, form)
