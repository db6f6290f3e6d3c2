"""CUDA graphs: whole passes replayed with one launch, for models that are bound by launches."""

from .forward import GraphedForward
from .recording import Recording
from .static_inputs import StaticInputs, shape_key

__all__ = ["GraphedForward", "Recording", "StaticInputs", "shape_key"]
