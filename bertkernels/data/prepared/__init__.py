"""Pre-training examples on disk: text is read, tokenised and packed piece by piece, by any number of processes."""
