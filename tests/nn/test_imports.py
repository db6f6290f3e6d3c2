import subprocess
import sys


def test_nn_needs_torch_only():
    code = "import sys, bertkernels.nn; print({'transformers', 'datasets', 'accelerate'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stdout + done.stderr
