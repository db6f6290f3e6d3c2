"""unpad=True: padding cannot change a real token, each sentence comes out as if it were alone."""

import copy

import pytest
import torch

import bertkernels

OPTIONS = {"output_attentions": True, "output_hidden_states": True}
PATTERNS = ("right", "left", "holes", "an empty row", "all real", "none")


def real_tokens(pattern: str, mask: torch.Tensor) -> torch.Tensor:
    """The batch's right-padded mask in another pattern."""
    if pattern == "left":
        return mask.flip(1)
    if pattern == "holes":
        return mask * (torch.arange(mask.shape[1]) % 3 != 1)
    if pattern == "an empty row":
        return mask * torch.tensor([1, 0, 1, 1])[:, None]
    if pattern in ("all real", "none"):
        return torch.ones_like(mask)
    return mask


@pytest.fixture
def pair(make_model):
    def make(*arguments, **changes):
        stock = make_model(*arguments, **changes)
        unpadded = copy.deepcopy(stock)
        bertkernels.patch(unpadded, unpad=True)
        return stock, unpadded

    return make


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("options", [{}, OPTIONS])
def test_each_sentence_as_if_alone(pattern, options, pair, make_batch):
    stock, unpadded = pair(num_groups=2, embedding_size=16)
    inputs = make_batch()
    ids, mask = inputs["input_ids"], real_tokens(pattern, inputs["attention_mask"])
    types = torch.randint(0, 2, ids.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        batch = unpadded(ids, None if pattern == "none" else mask, types, **options)
        for row, real in enumerate(mask.bool()):
            assert (batch.last_hidden_state[row, ~real] == 0).all()
            if not real.any():
                continue
            alone = stock(ids[row : row + 1, real], token_type_ids=types[row : row + 1, real], **options)
            torch.testing.assert_close(
                batch.last_hidden_state[row, real], alone.last_hidden_state[0], atol=2e-5, rtol=0
            )
            if not options:
                continue
            assert len(batch.hidden_states) == 3 and len(batch.attentions) == 2
            for states, expected in zip(batch.hidden_states, alone.hidden_states, strict=True):
                torch.testing.assert_close(states[row, real], expected[0], atol=2e-5, rtol=0)
                assert (states[row, ~real] == 0).all()
            for maps, expected in zip(batch.attentions, alone.attentions, strict=True):
                torch.testing.assert_close(maps[row][:, real][:, :, real], expected[0], atol=2e-5, rtol=0)
                assert (maps[row][:, ~real] == 0).all() and (maps[row][:, :, ~real] == 0).all()


def test_garbage_in_padding_changes_nothing(head, pair, make_batch):
    _, unpadded = pair(head)
    inputs = make_batch(head)
    garbage = inputs | {"input_ids": torch.where(inputs["attention_mask"] == 1, inputs["input_ids"], 59)}
    with torch.no_grad():
        expected, got = unpadded(**inputs), unpadded(**garbage)
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=0, rtol=0)


def test_unpatched_model_does_differ(pair, make_batch):
    """Else the tests above would prove nothing."""
    stock, unpadded = pair()
    inputs = make_batch()
    with torch.no_grad():
        difference = stock(**inputs).last_hidden_state - unpadded(**inputs).last_hidden_state
    assert difference[inputs["attention_mask"] == 1].abs().max() > 0.1


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("summary", [None, "first", "last", "mean"])
def test_heads_answer_for_each_sentence_as_if_alone(side, summary, make_model, make_batch):
    head = "ConvBertForMultipleChoice" if summary else "ConvBertForSequenceClassification"
    stock = make_model(head)
    if summary:
        stock.sequence_summary.summary_type = summary
    unpadded = copy.deepcopy(stock)
    bertkernels.patch(unpadded, unpad=True)
    inputs = {name: make_batch(head)[name] for name in ("input_ids", "attention_mask")}
    if side == "left":
        inputs = {name: x.flip(-1) for name, x in inputs.items()}
    with torch.no_grad():
        logits = unpadded(**inputs).logits.flatten(0, 1 if summary else 0)  # [B·choices] or [B, labels]
        rows = zip(inputs["input_ids"].flatten(0, -2), inputs["attention_mask"].flatten(0, -2).bool(), strict=True)
        for got, (ids, real) in zip(logits, rows, strict=True):
            alone = stock(ids[real].view(1, 1, -1) if summary else ids[real][None]).logits
            torch.testing.assert_close(got, alone[0, 0] if summary else alone[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["ConvBertForMaskedLM", "ConvBertForTokenClassification"])
def test_heads_over_tokens(name, pair, make_batch):
    stock, unpadded = pair(name)
    inputs = make_batch()
    with torch.no_grad():
        batch = unpadded(**inputs).logits
        for got, ids, real in zip(batch, inputs["input_ids"], inputs["attention_mask"].bool(), strict=True):
            torch.testing.assert_close(got[real], stock(ids[real][None]).logits[0], atol=2e-5, rtol=0)


def test_positions_given_are_taken(pair, make_batch):
    stock, unpadded = pair()
    inputs = make_batch()
    positions = torch.arange(20, 33)[None]
    with torch.no_grad():
        batch = unpadded(**inputs, position_ids=positions).last_hidden_state
        alone = stock(inputs["input_ids"][1:2, :6], position_ids=positions[:, :6]).last_hidden_state
    torch.testing.assert_close(batch[1, :6], alone[0], atol=2e-5, rtol=0)


def test_recorded_outputs_asked_for_in_the_configuration(pair, make_batch):
    _, unpadded = pair()
    expected = unpadded(**make_batch(), **OPTIONS)
    unpadded.config.output_attentions = unpadded.config.output_hidden_states = True
    got = unpadded(**make_batch())
    torch.testing.assert_close(got.hidden_states, expected.hidden_states, atol=0, rtol=0)
    torch.testing.assert_close(got.attentions, expected.attentions, atol=0, rtol=0)


def test_all_padding(pair):
    _, unpadded = pair()
    ids = torch.full((2, 5), 7)
    assert (unpadded(ids, torch.zeros_like(ids), **OPTIONS).last_hidden_state == 0).all()


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize("checkpointing", [None, True, False])  # use_reentrant
@pytest.mark.parametrize("options", [{}, OPTIONS])
def test_gradients_are_those_of_sentences_alone(checkpointing, options, pair, make_batch):
    no_dropout = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    stock, unpadded = pair(num_groups=2, embedding_size=16, **no_dropout)
    if checkpointing is not None:
        unpadded.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": checkpointing})
    unpadded.train()
    inputs = make_batch()

    def loss(hidden):
        return hidden[..., :16].pow(3).sum()

    loss(unpadded(**inputs, **options).last_hidden_state).backward()
    for ids, real in zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True):
        loss(stock(ids[real][None]).last_hidden_state).backward()
    expected = dict(stock.named_parameters())
    largest = max(parameter.grad.norm() for parameter in stock.parameters())
    for name, parameter in unpadded.named_parameters():
        reference = expected[name].grad
        error = (parameter.grad - reference).norm() / max(reference.norm(), 1e-3 * largest)
        assert error < 1e-4, f"{name}: relative error {error:.1e}"


def test_bfloat16_and_autocast(pair, make_batch):
    _, unpadded = pair()
    inputs = make_batch()
    with torch.no_grad():
        expected = unpadded(**inputs).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            autocast = unpadded(**inputs).last_hidden_state
        half = unpadded.bfloat16()(**inputs).last_hidden_state
    assert half.dtype == torch.bfloat16
    for got in (autocast, half.float()):
        assert (got - expected).abs().max() < 0.2


def losses_and_logits_alone(head, stock, inputs):
    """The loss of a head and its logits at real tokens, from the unpatched model on every sentence alone."""
    ids, real = inputs["input_ids"].flatten(0, -2), inputs["attention_mask"].flatten(0, -2).bool()
    shape = (1, 1, -1) if head == "ConvBertForMultipleChoice" else (1, -1)
    outputs = [stock(row[kept].view(shape)) for row, kept in zip(ids, real, strict=True) if kept.any()]
    cross_entropy = torch.nn.functional.cross_entropy
    if head == "ConvBertModel":
        states = torch.cat([out.last_hidden_state[0] for out in outputs])
        return states[:, :16].pow(3).mean(), states
    if head == "ConvBertForQuestionAnswering":
        starts, ends = [out.start_logits[0] for out in outputs], [out.end_logits[0] for out in outputs]
        places = zip(starts, ends, inputs["start_positions"], inputs["end_positions"], strict=True)
        count = real.cumsum(1) - 1  # a real token's place in its sentence
        losses = [
            cross_entropy(start, count[row, first]) + cross_entropy(end, count[row, last])
            for row, (start, end, first, last) in enumerate(places)
        ]
        return sum(losses) / (2 * len(losses)), torch.stack([torch.cat(starts), torch.cat(ends)], -1)
    if head in ("ConvBertForMaskedLM", "ConvBertForTokenClassification"):
        logits = torch.cat([out.logits[0] for out in outputs])
        return cross_entropy(logits, inputs["labels"][real]), logits
    logits = torch.cat([out.logits for out in outputs])
    if head == "ConvBertForMultipleChoice":
        logits = logits.view(inputs["labels"].shape[0], -1)
    return cross_entropy(logits, inputs["labels"]), logits


@pytest.mark.parametrize("pattern", ["right", "left", "holes"])
def test_losses_logits_and_gradients_of_heads_are_those_of_sentences_alone(head, pattern, pair, make_batch):
    no_dropout = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    stock, unpadded = pair(head, num_groups=2, embedding_size=16, **no_dropout)
    inputs = make_batch(head)
    tokens = inputs["input_ids"].shape[-1]
    mask = real_tokens(pattern, inputs["attention_mask"].view(-1, tokens)).view_as(inputs["attention_mask"])
    inputs["attention_mask"] = mask
    if head in ("ConvBertForMaskedLM", "ConvBertForTokenClassification"):
        inputs["labels"] = (inputs["input_ids"] % 2).masked_fill(mask == 0, -100)
    if head == "ConvBertForQuestionAnswering":
        inputs["start_positions"], inputs["end_positions"] = mask.argmax(1), tokens - 1 - mask.flip(1).argmax(1)

    expected_loss, expected = losses_and_logits_alone(head, stock, inputs)
    expected_loss.backward()
    found = unpadded.train()(**inputs)
    real = mask.bool()
    if head == "ConvBertModel":
        logits = found.last_hidden_state[real]
        loss = logits[:, :16].pow(3).mean()
    elif head == "ConvBertForQuestionAnswering":
        loss, logits = found.loss, torch.stack([found.start_logits[real], found.end_logits[real]], -1)
    else:
        loss = found.loss
        logits = found.logits[real] if expected.shape[0] == int(real.sum()) else found.logits
    loss.backward()
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=0)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    wanted = {name: parameter.grad for name, parameter in stock.named_parameters()}
    largest = max(gradient.norm() for gradient in wanted.values() if gradient is not None)
    for name, parameter in unpadded.named_parameters():
        if wanted[name] is None:
            assert parameter.grad is None, name
            continue
        error = (parameter.grad - wanted[name]).norm() / max(wanted[name].norm(), 1e-3 * largest)
        assert error < 1e-4, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{}, OPTIONS])
@pytest.mark.parametrize("pattern", PATTERNS[:4])
def test_nan_in_padding_reaches_neither_states_nor_gradients(pattern, options, training, pair, make_batch):
    _, unpadded = pair(num_groups=2, embedding_size=16)
    unpadded.train(training)
    mask = real_tokens(pattern, make_batch()["attention_mask"])
    embeds = torch.randn(*mask.shape, 16, generator=torch.Generator().manual_seed(4))
    weights = torch.randn(*mask.shape, 32, generator=torch.Generator().manual_seed(5))
    results = []
    for padding in (0.0, float("nan")):
        given = embeds.masked_fill(mask[..., None] == 0, padding).requires_grad_()
        unpadded.zero_grad()
        torch.manual_seed(6)
        out = unpadded(inputs_embeds=given, attention_mask=mask, **options)
        (out.last_hidden_state * weights).sum().backward()
        states = (out.last_hidden_state, *(out.hidden_states or ()), *(out.attentions or ()))
        results.append([*states, given.grad, *(p.grad for p in unpadded.parameters() if p.grad is not None)])
    for clean, poisoned in zip(*results, strict=True):
        assert torch.equal(clean, poisoned) and clean.isfinite().all()


def test_answers_stand_on_real_tokens(pair, make_batch):
    _, unpadded = pair("ConvBertForQuestionAnswering")
    mask = make_batch()["attention_mask"]
    with torch.no_grad():
        out = unpadded(make_batch()["input_ids"], mask)
    best = torch.stack([out.start_logits.max(1).values, out.end_logits.max(1).values], -1)  # [B, 2]
    assert (best < unpadded.qa_outputs.bias).any(), "zeros, at padding, would never have been the best"
    for logits in (out.start_logits, out.end_logits):
        assert mask.gather(1, logits.argmax(1, keepdim=True)).all()
    assert type(unpadded.qa_outputs).__name__ == "UnpaddedSpanLogits"
    bertkernels.unpatch(unpadded)
    assert type(unpadded.qa_outputs) is torch.nn.Linear


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"conv_kernel_size": 4}, "unpad=True needs all ConvBERT layers on fused ops, but not .*even"),
            ({"is_decoder": True}, "unpad=True needs all .* decoder"),
        ],
    )
    def test_unsupported_models_are_refused_and_left_as_they_were(self, changes, message, make_model):
        model = make_model(**changes)
        bertkernels.patch(model)
        before = [type(module) for module in model.modules()]
        with pytest.raises(ValueError, match=message):
            bertkernels.patch(model, unpad=True)
        assert [type(module) for module in model.modules()] == before

    def test_chunked_feed_forward(self, make_model):
        model = make_model()
        model.encoder.layer[0].chunk_size_feed_forward = 2
        with pytest.raises(ValueError, match="encoder.layer.0: chunk_size_feed_forward"):
            bertkernels.patch(model, unpad=True)

    def test_a_last_layer_for_spans_that_is_none_of_torchs(self, make_model):
        model = make_model("ConvBertForQuestionAnswering")
        model.qa_outputs = torch.nn.Sequential(model.qa_outputs)
        with pytest.raises(ValueError, match="not qa_outputs: it is a Sequential, not a Linear"):
            bertkernels.patch(model, unpad=True)

    def test_no_model_around_the_layers(self, make_model):
        with pytest.raises(ValueError, match="unpad=True needs a ConvBertModel"):
            bertkernels.patch(make_model().encoder, unpad=True)

    def test_ready_made_mask(self, make_model, make_batch):
        model = make_model()
        bertkernels.patch(model, unpad=True)
        ids = make_batch()["input_ids"]
        with pytest.raises(ValueError, match=r"needs attention_mask \[B, T\] = \[4, 13\], not .*\[4, 1, 13, 13\]"):
            model(ids, torch.zeros(4, 1, 13, 13))
