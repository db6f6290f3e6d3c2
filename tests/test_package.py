"""What a wheel holds, how the checkout's top-level folders import, and what importing costs."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OWN_FOLDERS = ("kernels", "models", "tests", "csrc", "benchmarks")


def python(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the tracked and new files, without compiling."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout: cannot tell the package's files from others")
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", out, source],
        check=True,
        env={**os.environ, "BERTKERNELS_BUILD": "none"},
        capture_output=True,
    )
    return next(out.glob("*.whl"))


def test_wheel_has_one_top_level_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"bertkernels"}
    for path in ("kernels/light_conv.py", "models/encoder.py", "models/convert/__init__.py", "ops/light_conv.py"):
        assert f"bertkernels/{path}" in names
    shipped = {name for name in names if name.startswith("bertkernels/kernels/tuned/")}
    assert shipped == {f"bertkernels/{path.relative_to(ROOT)}" for path in (ROOT / "kernels/tuned").glob("*.json")}


def test_wheel_works_unbuilt(wheel, tmp_path):
    """Nothing compiled: everything imports, runs on the reference, and `info` names the command that builds it."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys\n"  # an editable install's finder would offer the checkout's extension
        "sys.meta_path = [f for f in sys.meta_path if 'Editable' not in getattr(f, '__name__', '')]\n"
        "import torch, bertkernels, bertkernels.models.encoder, bertkernels.kernels, bertkernels.hf\n"
        "from bertkernels import ops\n"
        f"assert bertkernels.__file__.startswith({str(tmp_path)!r})\n"
        "ops.light_conv(torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 3))\n"
        "assert not ops.can_run('light_conv', 'cpu', 'cpu')[0]\n"
        "from bertkernels.cli.main import main; main(['info', '--json'])\n"
    )
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    info = json.loads(result.stdout)
    assert info["ops"]["cpu"]["light_conv"]["runs_on"] == "reference"
    assert "build_ext" in info["missing"]["compiled CPU kernels"]


def test_folders_of_the_checkout_are_not_regular_packages():
    for folder in OWN_FOLDERS:
        assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/__init__.py would be importable as {folder!r}"
    names = {path.name for path in ROOT.rglob("*") if path.is_dir() and not {".venv", "build"} & set(path.parts)}
    assert "torch" not in names
    assert not (ROOT / "kernels/triton").exists()


@pytest.mark.parametrize("has_hub_kernels", [False, True])
def test_transformers_models_import_in_the_checkout(has_hub_kernels, tmp_path):
    """transformers looks for a package called `kernels`: our folder of that name must neither break nor replace it."""
    if has_hub_kernels:  # a stand-in for Hugging Face's, outside the version range that transformers would load
        (tmp_path / "kernels").mkdir()
        (tmp_path / "kernels/__init__.py").write_text("__version__ = '0.0.1'\n")
    code = (
        "from transformers import ConvBertModel\n"
        "import sys, bertkernels.kernels, bertkernels.models.encoder\n"
        "import kernels\n"
        "print(getattr(kernels, '__version__', None))\n"
    )
    result = python(code, ROOT, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ("0.0.1" if has_hub_kernels else "None")


def test_bare_checkout_imports(tmp_path):
    """Without being installed: the checkout on the path is enough."""
    code = "import bertkernels.kernels, bertkernels.models.encoder, bertkernels.ops; print(bertkernels.__path__[0])"
    result = python(code, tmp_path, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(ROOT / "bertkernels")


def test_import_is_light(tmp_path):
    code = (
        "import sys, bertkernels; assert 'torch' not in sys.modules\n"
        "import bertkernels.ops, bertkernels.nn; assert 'transformers' not in sys.modules\n"
    )
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_unknown_verb_and_help():
    run = [sys.executable, "-m", "bertkernels"]
    result = subprocess.run([*run, "frobnicate"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2 and "unknown verb" in result.stderr
    result = subprocess.run([*run, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and "finetune" in result.stdout


def test_public_names():
    import bertkernels

    for name in bertkernels.__all__:
        assert getattr(bertkernels, name) is not None
