"""Kinds of tasks to fine-tune on, one a module: rows, head, features, metrics, predictions."""
