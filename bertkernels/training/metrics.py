"""Metrics of classification and regression over a whole evaluation set, as scikit-learn and SciPy define them."""

import numpy as np


def classification_metrics(predictions: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, float]:
    """Accuracy, F1 (of class 1 where there are two classes, else the mean over classes) and Matthews correlation.

    predictions, labels: int [N]. What is undefined (0/0) is 0.
    """
    table = np.zeros((classes, classes), dtype=np.float64)  # [label, prediction]
    np.add.at(table, (labels, predictions), 1)
    per_class = _ratio(2 * np.diag(table), table.sum(axis=0) + table.sum(axis=1))
    return {
        "accuracy": float(np.trace(table) / max(table.sum(), 1)),
        "f1": float(per_class[1] if classes == 2 else per_class.mean()),
        "mcc": _matthews(table),
    }


def regression_metrics(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Pearson's and Spearman's correlation (0 where one side is constant) and mean squared error; float [N] each."""
    predictions, labels = predictions.astype(np.float64), labels.astype(np.float64)
    return {
        "pearson": _pearson(predictions, labels),
        "spearman": _pearson(_ranks(predictions), _ranks(labels)),
        "mse": float(np.mean((predictions - labels) ** 2)),
    }


def _matthews(table: np.ndarray) -> float:
    """Gorodkin's form for any number of classes."""
    total, said, true = table.sum(), table.sum(axis=0), table.sum(axis=1)
    covariance = np.trace(table) * total - said @ true
    spread = np.sqrt((total**2 - said @ said) * (total**2 - true @ true))
    return float(covariance / spread) if spread > 0 else 0.0


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[place]


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
