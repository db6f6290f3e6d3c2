"""A linear layer that starts as TensorFlow's does by default."""

from torch import nn


class GlorotLinear(nn.Linear):
    """`nn.Linear` that starts Glorot-uniform with bias 0.

    The released ELECTRA, ConvBERT and LV-BERT code leaves some layers at TensorFlow's default. It is a class and not an
    initialisation step of the parent so that these layers are found wherever they stand.
    """

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
