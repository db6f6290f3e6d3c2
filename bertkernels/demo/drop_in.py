"""Step: Hugging Face's ConvBERT-small before and after `bertkernels.patch`."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

import bertkernels
from bertkernels.bench.timing import interleaved
from bertkernels.demo.convbert_small import (
    BATCH,
    LENGTH,
    MODES,
    calls,
    convbert_small,
    forward,
    full_batch,
    patched_copy,
)

_SENTENCES, _CHECKED_ALONE = 32, 8


def measure_drop_in(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], seed: int, seconds: float, compile_seconds: float
) -> dict:
    """Differences and speeds, as plain data; prints them as they come.

    Args:
        texts: sentences of real lengths for the padded batch.
        seconds: to time each comparison for.
        compile_seconds: time for everything that goes through torch.compile; 0 leaves it out.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stock = convbert_small(seed, device)
    fused, report = patched_copy(stock)
    print(f"  {report}")
    ids = full_batch(stock, seed)
    result = {
        "parameters": stock.num_parameters(),
        "batch": BATCH,
        "length": LENGTH,
        "device": device.type,
        "patch_report": report,
        "difference": _difference(forward(stock, input_ids=ids)(), forward(fused, input_ids=ids)()),
        "modes": {},
    }
    print(f"  largest difference of outputs: {result['difference']['largest']:.1e}", flush=True)
    models = {"stock": (stock, stock), "patched": (fused, fused)}
    for mode in MODES:
        times = interleaved(calls(mode, models, ids), rounds=1, seconds=seconds, warmup=1, device=device)
        result["modes"][mode] = {"times": {name: dataclasses.asdict(timing) for name, timing in times.items()}}
        print(f"  {mode}, eager: {_ratio(result['modes'][mode]['times'], 'patched'):.2f}x as fast", flush=True)
    result["padded"] = _padded_batch(stock, tokenizer, texts[:_SENTENCES], seconds, device)
    result["compiled"] = _compiled(seed, seconds, compile_seconds, device)
    for measured in result["compiled"]["modes"]:
        result["modes"][measured["mode"]] = {key: measured[key] for key in ("times", "compile_seconds")}
    return result


def _difference(a: torch.Tensor, b: torch.Tensor) -> dict[str, float]:
    return {"largest": (a - b).abs().max().item(), "largest_output": a.abs().max().item()}


def _ratio(times: dict[str, dict], name: str, base: str = "stock") -> float:
    return times[base]["p50"] / times[name]["p50"]


def _padded_batch(stock, tokenizer, texts: list[str], seconds: float, device: torch.device) -> dict:
    """A batch of real sentences: padded as Hugging Face runs it, patched, and patched with unpad=True."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    batch = {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}  # [B, T]
    lengths = batch["attention_mask"].sum(1).tolist()
    padded, _ = patched_copy(stock)
    unpadded, _ = patched_copy(stock, unpad=True)
    models = {"stock": stock, "patched": padded, "unpad": unpadded}
    timed = {name: forward(model, **batch) for name, model in models.items()}
    times = interleaved(timed, rounds=1, seconds=seconds, warmup=1, device=device)
    result = {
        "sentences": len(texts),
        "real_tokens": sum(lengths),
        "padded_tokens": batch["input_ids"].numel(),
        "times": {name: dataclasses.asdict(timing) for name, timing in times.items()},
        "difference": _difference(timed["stock"](), timed["patched"]())["largest"],
        "change_by_padding": {name: _change_by_padding(stock, run(), batch, lengths) for name, run in timed.items()},
    }
    share = 1 - result["real_tokens"] / result["padded_tokens"]
    print(f"  {len(texts)} real sentences, {share:.0%} of the batch is padding:")
    for name, what in (("patched", "patched"), ("unpad", "patched with unpad=True")):
        print(f"    {what}: {_ratio(result['times'], name):.2f}x as fast as Hugging Face")
    moved = result["change_by_padding"]
    print(
        f"    padding moves a real token's output by up to {moved['stock']:.1e} (Hugging Face), "
        f"{moved['unpad']:.1e} (unpad=True)",
        flush=True,
    )
    return result


def _change_by_padding(stock, outputs: torch.Tensor, batch: dict, lengths: list[int]) -> float:
    """How far real tokens of a batch's outputs are from the same sentences run alone, without padding."""
    largest = 0.0
    for row in range(min(_CHECKED_ALONE, len(lengths))):
        alone = forward(stock, input_ids=batch["input_ids"][row : row + 1, : lengths[row]])()  # [1, length, C]
        largest = max(largest, _difference(outputs[row, : lengths[row]], alone[0])["largest"])
    return largest


def _compiled(seed: int, seconds: float, limit: float, device: torch.device) -> dict:
    """What `bertkernels.demo.compiled` finishes within `limit` seconds, and what became of the rest."""
    if limit <= 0:
        note = "torch.compile left out: not enough time for it"
        print(f"  {note}", flush=True)
        return {"modes": [], "note": note}
    print(f"  torch.compile of both, at most {limit:.0f} s ...", flush=True)
    output, errors, in_time = _run_for(
        [sys.executable, "-m", "bertkernels.demo.compiled"]
        + ["--seed", str(seed), "--seconds", str(seconds), "--device", device.type],
        limit,
    )
    modes = [json.loads(line) for line in output.splitlines() if line.endswith("}")]
    for measured in modes:
        times = measured["times"]
        print(
            f"  {measured['mode']}: Hugging Face compiled {_ratio(times, 'stock compiled'):.2f}x, patched eager "
            f"{_ratio(times, 'patched'):.2f}x, patched compiled {_ratio(times, 'patched compiled'):.2f}x as fast as "
            "Hugging Face eager"
        )
    missing = " and ".join(MODES[len(modes) :])
    note = None
    if missing and not in_time:
        note = f"torch.compile, {missing}: left out, compiling took longer than the {limit:.0f} s set aside for it"
    elif missing:
        note = f"torch.compile, {missing}: left out, it failed here: {_reason(errors)}"
    if note:
        print(f"  {note}", flush=True)
    return {"modes": modes, "note": note}


def _run_for(command: list[str], limit: float) -> tuple[str, str, bool]:
    """Standard output, standard error, and whether it ended by itself within `limit` seconds."""
    # The new process finds this package as this one did.
    search_path = [str(Path(bertkernels.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, search_path))}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=environment,
        start_new_session=True,  # torch.compile starts workers of its own: they end with it
    )
    try:
        output, errors = process.communicate(timeout=limit)
        return output, errors, True
    except subprocess.TimeoutExpired:
        return *_stop(process), False
    except BaseException:
        _stop(process)
        raise


def _stop(process: subprocess.Popen) -> tuple[str, str]:
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    return process.communicate()


def _reason(errors: str) -> str:
    """The last line that names an exception, else the last line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.split(":")[0]]
    return (named or lines or ["no reason given"])[-1][:300]
