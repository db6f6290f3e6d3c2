"""Models as programs of torch's own operations, and as ONNX files: for where this package is not installed."""

from .check import largest_differences
from .onnx_file import to_onnx
from .program import to_exported_program

__all__ = ["largest_differences", "to_exported_program", "to_onnx"]
