"""Published hyper-parameters under a name."""
