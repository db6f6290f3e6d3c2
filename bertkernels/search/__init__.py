"""Search for encoders: an Optuna study over plans, whose candidates inherit their weights from a supernet."""
