"""Patched models straight from `from_pretrained` and `from_config`.

transformers has a registry of replacement classes of its own (`transformers.monkey_patching`). It is not used here: up
to 5.20 an entry in it makes every `from_pretrained` import every image processor, which fails without torchvision; and
where it covers a class named in `_can_record_outputs` unpatched models lose that output for the rest of the process.
"""

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils.hooks import RemovableHandle
from transformers.models.convbert.modeling_convbert import ConvBertEncoder, ConvBertModel

from .inputs import broadcast_mask, set_input_hook
from .patch import patch

_handle: RemovableHandle | None = None


def register() -> None:
    """From now on every ConvBERT model that is made is a patched one, until `unregister`; calling it again is safe.

    That goes for `from_pretrained`, `from_config` and direct construction, of models with any head. They keep Hugging
    Face's results; for `unpad=True` call `patch` on the model. Models that exist already are left as they are.
    """
    global _handle
    if _handle is None:
        _handle = register_module_module_registration_hook(_patch_new_encoder)


def unregister() -> None:
    """Ends what `register` began. Models made in between stay patched (see `unpatch`)."""
    global _handle
    if _handle is not None:
        _handle.remove()
        _handle = None


def _patch_new_encoder(parent: nn.Module, name: str, child: nn.Module) -> None:
    """Called by torch whenever a module becomes part of another."""
    if type(child) is ConvBertEncoder and isinstance(parent, ConvBertModel):
        patch(child)
        set_input_hook(parent, broadcast_mask)
