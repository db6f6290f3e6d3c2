"""`bertkernels info --plan "…"` and `--preset NAME`: what an encoder costs, and how long it takes here."""

import argparse
import sys
from typing import TYPE_CHECKING

from bertkernels.errors import InputError

if TYPE_CHECKING:
    from bertkernels.bench.timing import Timing
    from bertkernels.models.configuration import EncoderConfig
    from bertkernels.models.electra import ElectraConfig

_SIZES = {
    "vocab_size": int,
    "hidden_size": int,
    "embedding_size": int,
    "num_attention_heads": int,
    "intermediate_size": int,
    "conv_kernel_size": int,
    "head_ratio": float,
    "max_position_embeddings": int,
}
_STEPS, _BATCH, _TOKENS = 1_000_000, 128, 128
_COUNTED = {
    "products": "multiplications with their additions, as two",
    "electra": "as ELECTRA's authors do: also what is done to single elements, and look-ups in tables as products",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that describe an encoder, and what is to be known of it."""
    group = parser.add_argument_group("an encoder, what it costs")
    group.add_argument("--plan", help='sub-layers, such as "12*(mixed ffn)"')
    group.add_argument("--preset", metavar="NAME", help="a published encoder; --plan and sizes replace its own")
    for name, kind in _SIZES.items():
        group.add_argument(f"--{name}", type=kind, metavar="N")
    group.add_argument("--tokens", type=int, nargs="+", default=[_TOKENS], metavar="T", help="lengths of sequences")
    group.add_argument("--batch_size", type=int, default=8, metavar="B", help="sequences that are timed at once")
    group.add_argument("--counting", choices=list(_COUNTED), default="products", help="what a forward pass's FLOPs are")
    group.add_argument("--training", action="store_true", help="time forward and backward instead of inference")
    group.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="that is timed")
    group.add_argument("--seconds", type=float, default=3.0, help="to time for each length; 0: time nothing")
    group.add_argument("--generator_size", type=float, metavar="F", help="its width in pre-training, of the encoder's")
    group.add_argument(
        "--max_steps", type=int, metavar="N", help="of pre-training (default: as published, or 1,000,000)"
    )
    group.add_argument("--train_batch_size", type=int, metavar="B", help="sequences of such a step")


def refuse_all(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises InputError where a flag about an encoder was given without one."""
    for name, value in vars(arguments).items():
        if name != "json" and value != parser.get_default(name):
            raise InputError(f"--{name} needs --plan or --preset")


def collect(arguments: argparse.Namespace) -> dict:
    """What is printed of the encoder that the flags describe, as plain data.

    Raises:
        InputError: the flags describe no encoder, or numbers are out of range.
    """
    from bertkernels.bench.plan_costs import rows
    from bertkernels.models.operations import COUNTINGS

    _check(arguments)
    config, pair = _configs(arguments)
    parts = rows(config, arguments.tokens, COUNTINGS[arguments.counting], timed={})
    pretraining = _pretraining(pair, arguments)
    if arguments.seconds:
        timed = {tokens: _timed(config, tokens, arguments) for tokens in dict.fromkeys(arguments.tokens)}
        parts = rows(config, arguments.tokens, COUNTINGS[arguments.counting], timed)
    return {
        "plan": config.plan,
        "sizes": {name: getattr(config, name) for name in _SIZES},
        "counting": arguments.counting,
        "parts": parts,
        "timed": {name: getattr(arguments, name) for name in ("batch_size", "training", "device", "seconds")},
        "pretraining": pretraining,
    }


def _check(arguments: argparse.Namespace) -> None:
    import torch

    for flag in ("tokens", "batch_size", "max_steps", "train_batch_size"):
        values = getattr(arguments, flag)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value < 1:
                raise InputError(f"--{flag} must be at least 1, got {value}")
    if not 0 <= arguments.seconds < float("inf"):
        raise InputError(f"--seconds must be a number from 0, got {arguments.seconds}")
    if arguments.generator_size is not None and not 0 < arguments.generator_size <= 1:
        raise InputError(f"--generator_size must be above 0 and at most 1, got {arguments.generator_size}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; `bertkernels info` says what there is")


def _configs(arguments: argparse.Namespace) -> tuple["EncoderConfig", "ElectraConfig"]:
    """The encoder, and the pair that it is pre-trained in."""
    from bertkernels.models.configuration import EncoderConfig
    from bertkernels.models.electra import ElectraConfig, generator_config
    from bertkernels.models.presets import electra_preset, electra_preset_names, preset

    given = {name: getattr(arguments, name) for name in ("plan", *_SIZES)}
    changes = {name: value for name, value in given.items() if value is not None}
    config = preset(arguments.preset, **changes) if arguments.preset else EncoderConfig(**changes)
    if arguments.generator_size is None and arguments.preset in electra_preset_names():
        return config, electra_preset(arguments.preset, **changes)
    discriminator = EncoderConfig(**{**config.to_dict(), "pooler": False})
    generator = generator_config(discriminator, arguments.generator_size or 1 / 4)
    return config, ElectraConfig(generator=generator, discriminator=discriminator)


def _timed(config: "EncoderConfig", tokens: int, arguments: argparse.Namespace) -> dict[str, "Timing"]:
    from tqdm import tqdm

    from bertkernels.bench.latency import measure_parts

    shown = {"bar_format": "{desc} {percentage:3.0f} % |{bar}| {remaining} left", "leave": False, "file": sys.stderr}
    with tqdm(total=1.0, desc=f"timing {arguments.batch_size} × {tokens} tokens", **shown) as bar:
        return measure_parts(
            config,
            arguments.batch_size,
            tokens,
            training=arguments.training,
            device=arguments.device,
            seconds=arguments.seconds,
            on_round=lambda share: bar.update(share - bar.n),
        )


def _pretraining(pair: "ElectraConfig", arguments: argparse.Namespace) -> dict:
    from bertkernels.models.cost import parameters, training_flops
    from bertkernels.models.operations import COUNTINGS
    from bertkernels.training.recipes.pretraining import RECIPES

    recipe = RECIPES.get(arguments.preset)
    steps = arguments.max_steps or (recipe.values["max_steps"] if recipe else _STEPS)
    batch = arguments.train_batch_size or (recipe.batch if recipe else _BATCH)
    tokens = recipe.values["max_seq_length"] if recipe else _TOKENS
    return {
        "steps": steps,
        "batch": batch,
        "tokens": tokens,
        "generator_hidden_size": pair.generator.hidden_size,
        "parameters": parameters(pair),
        "flops": {name: training_flops(pair, tokens, steps * batch, counting) for name, counting in COUNTINGS.items()},
    }


def text(info: dict) -> str:
    """What `collect` found, for people."""
    from bertkernels.bench.plan_costs import table

    timed, training = info["timed"], info["pretraining"]
    lines = [info["plan"], " ".join(f"{name}={value}" for name, value in info["sizes"].items()), ""]
    lines += [table(info["parts"], timed["batch_size"]), ""]
    lines.append(f"MFLOPs: one sequence's forward pass, counting {_COUNTED[info['counting']]}.")
    if timed["seconds"]:
        what = "forward and backward passes" if timed["training"] else "forward passes"
        lines.append(f"ms: medians of {what} on {timed['device']}; sub-layers alone, times their number.")
    lines.append(
        f"ELECTRA pre-training, generator {training['generator_hidden_size']} wide, {training['steps']:,} steps of "
        f"{training['batch']:,} × {training['tokens']:,} tokens: {training['parameters']:,} parameters,\n"
        f"{training['flops']['electra']:.2e} FLOPs as ELECTRA's authors count, {training['flops']['products']:.2e} by "
        "products."
    )
    return "\n".join(lines)
