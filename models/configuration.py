"""The configuration of an encoder: what `config.json` says."""

from transformers import PreTrainedConfig

from bertkernels.errors import InputError
from bertkernels.nn import ACTIVATIONS
from bertkernels.nn.expressions import WIDTH_RULES

from .kinds import find_kind
from .plan import Plan, SublayerSpec, parse_plan

PADDINGS = ("exact", "reference")
QA_HEADS = ("plain", "joint")


class EncoderConfig(PreTrainedConfig):
    """Describes an encoder made of interchangeable sub-layers. The defaults are BERT-base without its pooler.

    Args:
        vocab_size, max_position_embeddings, type_vocab_size: sizes of the three embedding tables.
        hidden_size: width C of the hidden states.
        embedding_size: width of the embedding tables; None: hidden_size. If it differs from hidden_size, a linear layer
            maps it to hidden_size after the embeddings' dropout.
        trigram_embeddings: a linear layer maps the words before, at and after each token, embedding_size each, to
            hidden_size (MobileBERT); the other tables are hidden_size wide.
        num_attention_heads: fixes the head width, hidden_size / num_attention_heads, for all sub-layers.
        intermediate_size: width of `ffn` sub-layers that do not set one.
        plan: the sub-layers, in the language of `bertkernels.models.plan`; stored in normal form.
        supernet_kinds: None: an encoder. A list of sub-layers such as ["attention", "ffn[groups=2]"]: a supernet, see
            `bertkernels.models.supernet`, which holds all of them wherever the plan has a sub-layer.
        expression_widths: how expressions of `expression_ffn` treat different widths, one of
            `bertkernels.nn.expressions.WIDTH_RULES`.
        expression_rules: expressions must follow the rules of EfficientBERT's search space; False: any will do that can
            be computed.
        conv_kernel_size: taps K of `mixed` and `dynamic_conv` sub-layers that do not set `kernel`.
        head_ratio: `mixed` sub-layers have max(1, int(num_attention_heads / head_ratio)) heads of each kind.
        hidden_act: activation of `ffn` sub-layers that do not set one and of the prediction heads; a name from
            `bertkernels.nn.ACTIVATIONS`.
        hidden_dropout_prob, attention_probs_dropout_prob: dropout of hidden states and of attention probabilities.
        layer_norm_eps: of every LayerNorm.
        initializer_range: standard deviation of the truncated normal that weights start from.
        pad_token_id: the padding token.
        padding: "exact": padding can never change a real token; the encoder runs on packed tokens. "reference":
            padding takes part in convolutions, as in the released ConvBERT and LV-BERT code, on which their weights
            were trained.
        pooler: adds BERT's pooler, tanh(linear(first token)).
        classifier_hidden_act: None: classification heads are one linear layer, as in the released ELECTRA and ConvBERT
            code; a name: a hidden layer with this activation before it, as Hugging Face's ELECTRA and ConvBERT have.
        classifier_dropout: dropout of classification heads; None: hidden_dropout_prob.
        tie_word_embeddings: masked language models predict with the word embeddings.
        qa_head: heads of question answering: "plain": start and end on their own, as Hugging Face has it. "joint":
            ELECTRA's, whose end depends on the start.
        beam_size: starts, and ends for each of them, that the joint head proposes.
        answerable_classifier: adds ELECTRA's classifier of unanswerable questions to a question-answering head;
            answerable_uses_start_logits: it also sees where the answer might start. answerable_weight: of its loss.

    Raises:
        InputError: a value out of its range, values that do not fit together, or a plan that cannot be read.
    """

    model_type = "bertkernels"

    vocab_size: int = 30522
    hidden_size: int = 768
    embedding_size: int | None = None
    trigram_embeddings: bool = False
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    plan: str = "12*(attention ffn)"
    supernet_kinds: list[str] | None = None
    expression_widths: str = "crop"
    expression_rules: bool = True
    conv_kernel_size: int = 9
    head_ratio: float = 2
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int | None = 0
    padding: str = "exact"
    pooler: bool = False
    classifier_hidden_act: str | None = None
    classifier_dropout: float | None = None
    tie_word_embeddings: bool = True
    qa_head: str = "plain"
    beam_size: int = 20
    answerable_classifier: bool = False
    answerable_uses_start_logits: bool = True
    answerable_weight: float = 0.5

    def __post_init__(self, **kwargs) -> None:
        layers = kwargs.pop("num_hidden_layers", None)
        if self.embedding_size is None:
            self.embedding_size = self.hidden_size
        self.check()
        if layers is not None and layers != self.num_hidden_layers:
            raise InputError(f"num_hidden_layers {layers} contradicts the plan, which has {self.num_hidden_layers}")
        super().__post_init__(**kwargs)

    @property
    def parsed_plan(self) -> Plan:
        return parse_plan(self.plan)

    @property
    def num_hidden_layers(self) -> int:
        """Blocks in the plan."""
        return len(self.parsed_plan.blocks)

    @property
    def head_size(self) -> int:
        """Width of one head, whatever number of heads a sub-layer has."""
        return self.hidden_size // self.num_attention_heads

    def check(self) -> None:
        """Raises InputError where the fields make no encoder; brings the plan into normal form."""
        for name in (
            "vocab_size",
            "hidden_size",
            "embedding_size",
            "num_attention_heads",
            "intermediate_size",
            "conv_kernel_size",
            "max_position_embeddings",
            "type_vocab_size",
            "beam_size",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} must be a whole number from 1, got {value!r}")
        if self.hidden_size % self.num_attention_heads:
            heads = self.num_attention_heads
            raise InputError(f"hidden_size {self.hidden_size} must be divisible by num_attention_heads {heads}")
        self._check_number("head_ratio", low=0, exclusive=True)
        self._check_number("layer_norm_eps", low=0)
        self._check_number("initializer_range", low=0, exclusive=True)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            if getattr(self, name) is not None or name != "classifier_dropout":
                self._check_number(name, low=0, high=1)
        self._check_number("answerable_weight", low=0)
        self._check_choice("padding", PADDINGS)
        self._check_choice("expression_widths", WIDTH_RULES)
        self._check_choice("qa_head", QA_HEADS)
        self._check_choice("hidden_act", ACTIVATIONS)
        if self.classifier_hidden_act is not None:
            self._check_choice("classifier_hidden_act", ACTIVATIONS)
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise InputError(f"pad_token_id must be below vocab_size {self.vocab_size}, got {self.pad_token_id}")
        plan = parse_plan(self.plan)
        sublayers = {sublayer for block in plan.blocks for sublayer in block.sublayers}
        if self.supernet_kinds is not None:
            kinds = self._parsed_kinds()
            for sublayer in sorted(sublayers.difference(kinds), key=str):
                raise InputError(f"supernet_kinds must have all of the plan's, which has {sublayer} too")
            sublayers.update(kinds)
            self.supernet_kinds = [str(kind) for kind in kinds]
        for sublayer in sublayers:
            find_kind(sublayer.kind).arguments(self, **sublayer.function_options)
        self.plan = str(plan)

    def _parsed_kinds(self) -> list[SublayerSpec]:
        if not isinstance(self.supernet_kinds, (list, tuple)):
            raise InputError(f"supernet_kinds must be a list of sub-layers, got {self.supernet_kinds!r}")
        kinds = []
        for text in self.supernet_kinds:
            blocks = parse_plan(text).blocks
            if len(blocks) != 1 or len(blocks[0].sublayers) != 1:
                raise InputError(f"supernet_kinds must be single sub-layers, got {text!r}")
            kinds.append(blocks[0].sublayers[0])
        if len(set(kinds)) != len(kinds) or len(kinds) < 2:
            raise InputError(
                f"supernet_kinds must be at least two different sub-layers, got {', '.join(map(str, kinds))}"
            )
        return kinds

    def _check_number(self, name: str, low: float, high: float = float("inf"), exclusive: bool = False) -> None:
        value = getattr(self, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high or value == float("inf") or (exclusive and value == low):
            limits = f"above {low}" if exclusive else f"from {low}" + (f" to {high}" if high != float("inf") else "")
            raise InputError(f"{name} must be a number {limits}, got {value!r}")

    def _check_choice(self, name: str, choices) -> None:
        if getattr(self, name) not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
