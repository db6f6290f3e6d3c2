"""All that the processes that prepare text have to know, as plain JSON."""

import json
from dataclasses import asdict, dataclass

from bertkernels.data.formats.piece import Piece, ReadOptions
from bertkernels.data.packing import Packing


@dataclass(frozen=True)
class Job:
    """`tokenizer` is the tokenizers library's own form of it (JSON)."""

    pieces: tuple[Piece, ...]
    options: ReadOptions
    tokenizer: str
    cls_id: int
    sep_id: int
    packing: Packing
    seed: int
    validation_share: float = 0.0
    shuffle: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Job":
        fields = json.loads(text)
        fields["pieces"] = tuple(Piece(**piece | {"files": tuple(piece["files"])}) for piece in fields["pieces"])
        fields["options"] = ReadOptions(**fields["options"])
        fields["packing"] = Packing(**fields["packing"])
        return Job(**fields)
