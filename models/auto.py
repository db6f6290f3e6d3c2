"""Importing this module makes all our models known to transformers' Auto classes.

Each module registers what it defines, so importing `bertkernels.models.heads` is enough for encoders and most heads.
"""

from . import electra, encoder, heads, question_answering  # noqa: F401
