"""The found plan as a model with its inherited weights, to go on training or to fine-tune."""

from pathlib import Path as File

from bertkernels.models.electra import ElectraForPreTraining
from bertkernels.models.supernet import inherited_model
from bertkernels.search.fitness import load_supernet
from bertkernels.training.pretrain import DISCRIMINATOR_FOLDER

FOUND = "found"


def save_found(supernet: str, plan: str, tokenizer, folder: File) -> None:
    """Writes model and tokenizer into the folder; of a pair the discriminator alone into one inside, as pre-training
    does."""
    model = inherited_model(load_supernet(supernet), plan)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if isinstance(model, ElectraForPreTraining):
        model.discriminator.save_pretrained(folder / DISCRIMINATOR_FOLDER)
        tokenizer.save_pretrained(folder / DISCRIMINATOR_FOLDER)
