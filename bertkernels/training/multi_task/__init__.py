"""Several tasks at once: one encoder with a head for each."""
