"""`bertkernels demo`: the whole tour in five minutes, each number measured as it runs."""
