"""What became of the text: how much was read, what examples it gave, and what was left out and why."""

from dataclasses import asdict, dataclass, field


@dataclass
class Counts:
    """Of one split. `tokens` are the text's, `example_tokens` those of all examples with their special ones."""

    documents: int = 0
    sentences: int = 0
    tokens: int = 0
    examples: int = 0
    example_tokens: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # by reason

    def drop(self, reason: str, count: int = 1) -> None:
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def add(self, other: dict) -> None:
        """Adds `to_dict` of others."""
        for name, value in other.items():
            if name == "dropped":
                for reason, count in value.items():
                    self.drop(reason, count)
            else:
                setattr(self, name, getattr(self, name) + value)

    def padding_share(self, max_length: int) -> float:
        """Share of padding if every example were padded to `max_length`."""
        return 1 - self.example_tokens / (self.examples * max_length) if self.examples else 0.0

    def to_dict(self) -> dict:
        return asdict(self)
