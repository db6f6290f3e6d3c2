from bertkernels.bench import OPS
from bertkernels.bench.case import BOTH, FORWARD
from bertkernels.bench.select import bench_of, select_cases


def test_a_full_run_has_every_size_shape_and_mode():
    everything = select_cases([op for op in OPS if op != "padded_batch"])
    cases = [case for case in everything if case.record == "times" and case.dtype == "float32"]
    assert len(cases) == len(set(cases)) == (len(OPS) - 1) * 3 * 3 * 2
    assert {(case.batch, case.tokens) for case in cases} == {(8, 128), (2, 512), (1, 128)}
    assert {case.mode for case in cases} == {FORWARD, BOTH}
    dense = {"linear", "grouped_linear", "residual_norm", "dynamic_conv"}
    assert all(case.compiled for case in cases if case.mode == FORWARD and case.op not in dense)
    profiled = {(case.op, case.mode, case.size, case.batch) for case in cases if case.profile}
    sizes, batches = ("small", "medium-small", "base"), (8, 2, 1)
    assert profiled == {("encoder", FORWARD, size, batch) for size in sizes for batch in batches} | {
        ("encoder", BOTH, size, 8) for size in ("small", "base")
    }
    compiled = {(case.size, case.batch) for case in cases if case.mode == BOTH and case.compiled}
    assert compiled == {("small", 8), ("base", 8)}
    with_memory = {(case.size, case.batch, case.mode) for case in cases if case.memory}
    assert with_memory == {(size, 8, mode) for size in ("small", "base") for mode in (FORWARD, BOTH)}


def test_a_full_run_has_what_limits_ask_for_beside():
    more = [case for case in select_cases() if case.record != "times" or case.dtype != "float32"]
    assert {(case.op, case.size, case.tokens, case.mode) for case in more if case.record == "growth"} == {
        (op, "base", 2**16, FORWARD) for op in ("light_conv", "depthwise_conv", "span_conv")
    }
    assert [(case.op, case.size, case.batch, case.tokens, case.mode) for case in more if case.record == "memory"] == [
        ("encoder", "base", 8, 512, BOTH)
    ]
    half = [case for case in more if case.dtype == "bfloat16"]
    assert {(case.op, case.size, case.mode) for case in half} == {
        ("encoder", size, FORWARD) for size in ("small", "medium-small", "base")
    }
    assert len(more) == 3 + 1 + 3 and all("patched, float32" in bench_of(case).names(case) for case in half)


def test_on_a_gpu_the_first_shape_comes_first_and_steps_are_compiled_and_profiled():
    cases = select_cases(["encoder"], "cuda")
    assert [case.tokens for case in cases] == [512] * 6 + [128] * 6
    steps = [case for case in cases if case.mode == BOTH and case.size in ("small", "base")]
    assert all(case.compiled and case.profile for case in steps)
    assert [case for case in cases if case.profile] == steps
    bert = [case for case in cases if "Hugging Face BERT, SDPA" in bench_of(case).names(case)]
    assert bert == [case for case in steps if case.size == "base"]


def test_nothing_is_compiled_unless_wanted():
    assert not any(case.compiled for case in select_cases(compiled=False))


def test_a_quick_run_has_one_shape_an_op():
    cases = select_cases(quick=True)
    assert [(case.op, case.size, case.batch, case.tokens) for case in cases if case.mode == FORWARD] == [
        *((op, "base", 8, 128) for op in OPS[:-2]),
        ("encoder", "small", 8, 128),
        ("padded_batch", "small", 32, 44),
    ]
    assert not any(case.compiled or case.memory for case in cases)


def test_padded_batches_have_the_lengths_of_each_task():
    cases = select_cases(["padded_batch"])
    assert len(cases) == len(set(cases)) == 3 * 2 * 2 - 2
    assert [case.text for case in cases if case.mode == BOTH and case.size == "base"] == ["SST-2"]
    assert len(select_cases(["padded_batch"], "cuda")) == 3 * 2 * 2
    assert {(case.text, case.tokens) for case in cases} == {("SST-2", 44), ("MRPC", 78), ("RTE", 128)}


def test_every_op_has_hugging_face_compiled_and_floors_among_its_peers():
    for case in select_cases():
        if case.record != "times":
            continue
        names = bench_of(case).names(case)
        assert names[0] == "Hugging Face" and ("Hugging Face, compiled" in names) == case.compiled
        assert names[-1] in ("copy of the same bytes", "its own matrix products")
        if case.op in ("span_conv", "mixed_attention", "linear", "grouped_linear", "dynamic_conv"):
            assert names[-2:] == ["its own matrix products", "copy of the same bytes"]


def test_on_a_gpu_in_bfloat16():
    cases = select_cases(["light_conv"], "cuda")
    assert {(case.device, case.dtype) for case in cases} == {("cuda", "bfloat16")}
