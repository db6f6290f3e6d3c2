"""What happens to an encoder when its blocks are swapped, shuffled, removed, frozen, replaced or masked.

Source: Zhao et al. 2021, Of Non-Linearity and Commutativity in BERT (arXiv 2101.04547), and its released code.
"""
