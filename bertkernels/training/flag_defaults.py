"""What flags are where nobody sets them."""

import json
from dataclasses import MISSING, fields


def flag_defaults(*arguments: object) -> dict[str, object]:
    """The defaults of dataclasses of flags, given as classes or instances, as JSON has them."""
    return plain(
        {
            field.name: field.default if field.default_factory is MISSING else field.default_factory()
            for one in arguments
            for field in fields(one)
            if field.default is not MISSING or field.default_factory is not MISSING
        }
    )


def plain(values: dict[str, object]) -> dict[str, object]:
    """Values of flags as JSON has them."""
    return json.loads(json.dumps(values, default=str))
