"""Checkpoints of others as models of ours, and back: TensorFlow's and Hugging Face's ConvBERT, ELECTRA and BERT."""

from .from_huggingface import from_huggingface
from .tensorflow import load_tensorflow
from .to_huggingface import to_huggingface

__all__ = ["from_huggingface", "load_tensorflow", "to_huggingface"]
