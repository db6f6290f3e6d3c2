"""Importing this module makes all our models known to transformers' Auto classes.

Each module registers what it defines, so importing `bertkernels.models.heads` is enough for encoders and most heads.
"""

from . import electra, encoder, heads, multiple_choice, question_answering, token_classification  # noqa: F401
