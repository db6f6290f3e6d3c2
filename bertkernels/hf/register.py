"""Patched models straight from `from_pretrained` and `from_config`."""

from transformers.models.convbert.modeling_convbert import ConvBertEncoder

from .patch import patch

_PATTERN = "^ConvBertEncoder$"


class PatchedConvBertEncoder(ConvBertEncoder):
    """What transformers constructs in the place of a `ConvBertEncoder`: an ordinary one, patched.

    Only the encoder is mapped. The classes inside it are named in `_can_record_outputs`, which transformers rewrites
    for the whole process when a mapping covers them: unpatched models would lose their attention maps.
    """

    def __new__(cls, config) -> ConvBertEncoder:
        encoder = ConvBertEncoder(config)
        patch(encoder)
        return encoder


def register() -> None:
    """From now on `from_pretrained` and `from_config` of ConvBERT models give patched ones, until `unregister`.

    A model constructed directly, `ConvBertModel(config)`, is not covered (transformers' rule), nor is `unpad`: call
    `bertkernels.patch` on those. `patch` also spares such models the [B, 1, T, T] mask that they build from a padded
    batch.
    """
    _transformers().register_patch_mapping({_PATTERN: PatchedConvBertEncoder}, overwrite=True)


def unregister() -> None:
    """Ends what `register` began; models that were made meanwhile stay patched. Without `register` it does nothing."""
    if _PATTERN in _transformers().get_patch_mapping():
        _transformers().unregister_patch_mapping([_PATTERN])


def _transformers():
    try:
        from transformers import monkey_patching
    except ImportError as error:
        raise RuntimeError(
            "bertkernels.register needs transformers 5.17 or newer (transformers.monkey_patching); "
            "call bertkernels.patch on the model instead"
        ) from error
    return monkey_patching
