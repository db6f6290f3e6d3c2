"""Published hyper-parameters by name."""
