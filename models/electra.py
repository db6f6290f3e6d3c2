"""ELECTRA pre-training: a generator fills masked tokens in, a discriminator finds out which ones."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForPreTraining, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from bertkernels.errors import InputError

from .configuration import EncoderConfig
from .heads import EncoderForMaskedLM, EncoderForReplacedTokenDetection, token_losses
from .plan import Plan

DUPLICATE_DRAWS = ("first", "average")
# what both networks must agree on where they share the embedding tables
_SHARED = (
    "vocab_size",
    "embedding_size",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "hidden_dropout_prob",
)


def generator_config(
    discriminator: EncoderConfig, fraction: float = 0.25, untied_embeddings: bool = False, layers: float = 1.0
) -> EncoderConfig:
    """The published generator of a discriminator: the same plan at `fraction` of the width.

    Head width stays (at least one head), the feed-forward width shrinks with the hidden width. With untied_embeddings
    the generator's own tables are as wide as its hidden states. `layers` is the share of the plan's blocks that the
    generator has, the first ones; at least one.
    """
    hidden_size = round(discriminator.hidden_size * fraction)
    blocks = discriminator.parsed_plan.blocks
    changes = {
        "plan": str(Plan(blocks[: max(1, round(len(blocks) * layers))])),
        "hidden_size": hidden_size,
        "num_attention_heads": max(1, hidden_size // discriminator.head_size),
        "intermediate_size": round(discriminator.intermediate_size * fraction),
        "embedding_size": hidden_size if untied_embeddings else discriminator.embedding_size,
        "pooler": False,
    }
    return EncoderConfig(**{**discriminator.to_dict(), **changes})


class ElectraConfig(PreTrainedConfig):
    """A generator and a discriminator, and how they train together (Clark et al. 2020; ConvBERT, LV-BERT).

    Args:
        generator: None: `generator_config(discriminator)`; and where there is no generator of its own, see below.
        discriminator: the encoder that is the purpose of it all.
        masked_lm_weight, discriminator_weight: weights of the two losses; published 1 and 50.
        temperature: of the distribution that the generator's tokens are sampled from.
        disallow_correct: the generator never samples the true token.
        duplicate_draws: what a position gets that was drawn more than once, as the published drawing with replacement
            allows. "first": the first draw's sample. "average": the floor of the mean of the sampled token ids, an
            arbitrary token, as in the released code of ELECTRA, ConvBERT and LV-BERT.
        untied_generator_embeddings: the generator has embedding tables of its own.
        untied_generator: False: one network does both, the masked language model's head and the discriminator's on it.
        uniform_generator: there is no generator: tokens are replaced by any of the vocabulary, as likely each. The
            masked language model's loss is a constant, the logarithm of the vocabulary's size.

    Raises:
        InputError: a value out of its range, or networks that cannot share their embeddings.
    """

    model_type = "bertkernels-electra"
    sub_configs: ClassVar = {"generator": EncoderConfig, "discriminator": EncoderConfig}

    generator: EncoderConfig | dict | None = None
    discriminator: EncoderConfig | dict | None = None
    masked_lm_weight: float = 1.0
    discriminator_weight: float = 50.0
    temperature: float = 1.0
    disallow_correct: bool = False
    duplicate_draws: str = "first"
    untied_generator_embeddings: bool = False
    untied_generator: bool = True
    uniform_generator: bool = False
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs) -> None:
        if not isinstance(self.discriminator, EncoderConfig):
            self.discriminator = EncoderConfig(**(self.discriminator or {}))
        if self.generator is None:
            if self.has_generator:
                untied = self.untied_generator_embeddings
                self.generator = generator_config(self.discriminator, untied_embeddings=untied)
        elif not isinstance(self.generator, EncoderConfig):
            self.generator = EncoderConfig(**self.generator)
        self.check()
        super().__post_init__(**kwargs)

    @property
    def has_generator(self) -> bool:
        """Whether the generator is a network of its own."""
        return self.untied_generator and not self.uniform_generator

    def check(self) -> None:
        """Raises InputError where the fields make no pair."""
        if not self.temperature > 0:
            raise InputError(f"temperature must be above 0, got {self.temperature!r}")
        for name in ("masked_lm_weight", "discriminator_weight"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)!r}")
        if self.duplicate_draws not in DUPLICATE_DRAWS:
            choices = ", ".join(DUPLICATE_DRAWS)
            raise InputError(f"duplicate_draws must be one of {choices}, got {self.duplicate_draws!r}")
        if not self.has_generator:
            reason = "with uniform_generator" if self.uniform_generator else "where untied_generator is False"
            for name in ("generator", "untied_generator_embeddings"):
                if getattr(self, name):
                    raise InputError(f"{name} can't be given {reason}: there is no generator of its own")
            return
        for name in ("vocab_size",) if self.untied_generator_embeddings else _SHARED:
            ours, theirs = getattr(self.generator, name), getattr(self.discriminator, name)
            if ours != theirs:
                raise InputError(f"{name} of generator and discriminator must be the same, got {ours} and {theirs}")


def encoder_config(config: ElectraConfig | EncoderConfig) -> EncoderConfig:
    """The encoder's own, of a pair the discriminator's."""
    return config.discriminator if isinstance(config, ElectraConfig) else config


@dataclass
class ElectraOutput(ModelOutput):
    """What a pre-training step computes.

    Attributes:
        loss: masked_lm_weight · masked_lm_loss + discriminator_weight · discriminator_loss.
        masked_lm_loss: Σ weights · cross entropy / (Σ weights + 1e-6).
        discriminator_loss: binary cross entropy over real tokens.
        masked_lm_logits: [B, P, V]. discriminator_logits: [B, T].
        sampled_ids: [B, P], the generator's tokens.
        corrupted_input_ids: [B, T], what the discriminator reads.
        replaced_labels: int64 [B, T], 1 where that is not the original token: a token sampled right is not replaced.
    """

    loss: torch.Tensor | None = None
    masked_lm_loss: torch.Tensor | None = None
    discriminator_loss: torch.Tensor | None = None
    masked_lm_logits: torch.Tensor | None = None
    discriminator_logits: torch.Tensor | None = None
    sampled_ids: torch.Tensor | None = None
    corrupted_input_ids: torch.Tensor | None = None
    replaced_labels: torch.Tensor | None = None


class ElectraForPreTraining(PreTrainedModel):
    """Generator and discriminator as one trainable model.

    Unless config.untied_generator_embeddings, both have the same embeddings module: tables, LayerNorm and all. Where
    config.untied_generator is False, they have the same encoder; with config.uniform_generator `generator` is None.
    `model.discriminator.save_pretrained(...)` writes the discriminator alone, `model.discriminator.model` the encoder.
    """

    config: ElectraConfig
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]

    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        config.check()
        self.discriminator = EncoderForReplacedTokenDetection(config.discriminator)
        self.generator = None
        if not config.uniform_generator:
            self.generator = EncoderForMaskedLM(config.generator if config.untied_generator else config.discriminator)
            self._share_weights()
        self.post_init()

    def _share_weights(self) -> None:
        ours, theirs = self.generator.model, self.discriminator.model
        if not self.config.untied_generator:
            self.generator.model, shared = theirs, "model"
        elif not self.config.untied_generator_embeddings:
            ours.embeddings, shared = theirs.embeddings, "model.embeddings"
        else:
            return
        # names, for loading and saving, of what the shared module holds
        self._tied_weights_keys = {
            f"generator.{shared}.{name}": f"discriminator.{shared}.{name}"
            for name, _ in self.discriminator.get_submodule(shared).named_parameters()
        }

    def _init_weights(self, module: nn.Module) -> None:
        """Both networks initialise themselves; the pair has no weights of its own."""

    def get_input_embeddings(self) -> nn.Embedding:
        return self.discriminator.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Linear | None:
        return None if self.generator is None else self.generator.get_output_embeddings()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        masked_lm_positions: torch.Tensor,
        masked_lm_ids: torch.Tensor,
        masked_lm_weights: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        original_input_ids: torch.Tensor | None = None,
        generator_noise: torch.Tensor | None = None,
        sampled_ids: torch.Tensor | None = None,
    ) -> ElectraOutput:
        """One step of both networks. All shapes are static: P slots a sequence, unused ones have weight 0.

        Args:
            input_ids: int64 [B, T], masked. original_input_ids: the same before masking; None: made of input_ids and
                masked_lm_ids.
            masked_lm_positions, masked_lm_ids: int64 [B, P]: where to predict, and the true tokens there.
            masked_lm_weights: [B, P]: 1 for a draw, 0 for an unused slot (its position and id are not read).
            attention_mask, token_type_ids: [B, T].
            generator_noise: Gumbel noise [B, P, V] in place of fresh noise.
            sampled_ids: int64 [B, P] in place of the generator's samples.
        """
        drawn = masked_lm_weights > 0  # [B, P]
        if original_input_ids is None:
            original_input_ids = scatter_draws(input_ids, masked_lm_positions, masked_lm_ids, drawn)
        if self.generator is None:
            logits = torch.zeros((), device=input_ids.device)
            masked_lm_logits = logits.expand(*masked_lm_positions.shape, self.config.discriminator.vocab_size)
        else:
            masked_lm_logits = self.generator(
                input_ids, attention_mask, token_type_ids, masked_positions=masked_lm_positions, return_dict=True
            ).logits  # [B, P, V]
        weights = masked_lm_weights.float()
        losses = token_losses(masked_lm_logits, masked_lm_ids)  # [B, P]
        masked_lm_loss = (losses * weights).sum() / (weights.sum() + 1e-6)

        if sampled_ids is None:
            sampled_ids = sample_tokens(
                masked_lm_logits,
                temperature=self.config.temperature,
                disallowed=masked_lm_ids if self.config.disallow_correct else None,
                noise=generator_noise,
            )
        corrupted = scatter_draws(
            original_input_ids, masked_lm_positions, sampled_ids, drawn, self.config.duplicate_draws
        )
        labels = (corrupted != original_input_ids).long()  # [B, T]
        found = self.discriminator(corrupted, attention_mask, token_type_ids, labels=labels, return_dict=True)

        weighted = self.config.masked_lm_weight * masked_lm_loss, self.config.discriminator_weight * found.loss
        return ElectraOutput(
            loss=weighted[0] + weighted[1],
            masked_lm_loss=masked_lm_loss,
            discriminator_loss=found.loss,
            masked_lm_logits=masked_lm_logits,
            discriminator_logits=found.logits,
            sampled_ids=sampled_ids,
            corrupted_input_ids=corrupted,
            replaced_labels=labels,
        )


def gumbel_noise(uniform: torch.Tensor) -> torch.Tensor:
    """-log(-log(u + 1e-9) + 1e-9) of uniform numbers: added to logits, it makes their argmax a sample."""
    return -torch.log(-torch.log(uniform + 1e-9) + 1e-9)


@torch.no_grad()
def sample_tokens(
    logits: torch.Tensor,
    *,
    temperature: float = 1.0,
    disallowed: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """A sample of softmax(logits / temperature) for each position; no gradient passes.

    Args:
        logits: [B, P, V].
        disallowed: int64 [B, P], a token for each position that is not sampled.
        noise: Gumbel noise [B, P, V]; None: fresh.

    Returns:
        int64 [B, P].
    """
    scores = logits.float() / temperature
    if disallowed is not None:
        scores = scores.scatter_add(-1, disallowed[..., None], scores.new_full((*disallowed.shape, 1), -1000.0))
    if noise is None:
        noise = gumbel_noise(torch.rand_like(scores))
    return (scores + noise).argmax(-1)


def scatter_draws(
    input_ids: torch.Tensor,
    positions: torch.Tensor,
    updates: torch.Tensor,
    drawn: torch.Tensor,
    duplicates: str = "first",
) -> torch.Tensor:
    """Writes tokens into sequences; the result does not depend on the order of writing.

    Args:
        input_ids: int64 [B, T]. positions, updates: int64 [B, P].
        drawn: bool [B, P]: slots to write; the others are not read.
        duplicates: where several slots have one position, "first" writes the first of them, "average" the floor of
            their mean (see `ElectraConfig`).

    Returns:
        int64 [B, T], a copy.
    """
    batch, tokens = input_ids.shape
    if duplicates == "average":
        at = torch.where(drawn, positions, 0)
        zeros = torch.zeros_like(input_ids)
        total = zeros.scatter_add(1, at, torch.where(drawn, updates, 0).to(zeros.dtype))  # [B, T]
        count = zeros.scatter_add(1, at, drawn.to(zeros.dtype))
        return torch.where(count > 0, total // count.clamp(min=1), input_ids)
    same = (positions[:, :, None] == positions[:, None, :]) & drawn[:, None, :]  # [B, P, P]: slot j repeats slot i
    repeats = torch.tril(same, diagonal=-1).any(-1)  # [B, P]: an earlier slot has this position
    at = torch.where(drawn & ~repeats, positions, tokens)  # what is not to be written goes to a column past the end
    wide = torch.cat((input_ids, input_ids.new_zeros(batch, 1)), dim=1)  # [B, T + 1]
    return wide.scatter(1, at, updates.to(wide.dtype))[:, :tokens]


AutoConfig.register(ElectraConfig.model_type, ElectraConfig, exist_ok=True)
AutoModelForPreTraining.register(ElectraConfig, ElectraForPreTraining, exist_ok=True)
