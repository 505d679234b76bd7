"""What it means for a capture that its interface is down, away, another one, or has another name."""

from typing import Literal, NamedTuple

__all__ = ["Ailment", "Link", "Sight"]

Ailment = Literal["down", "gone", "replaced"]


class Sight(NamedTuple):
    """What is seen of an interface.

    Attributes:
        named: index of the one that has the wanted name now; None where there is none.
        name: present name of the one that is captured on; None where it is gone.
        up: whether the one that is captured on is switched on; it needs no cable for that.
    """

    named: int | None
    name: str | None
    up: bool


class Link:
    """Follows one interface; a pure state machine.

    The wanted name counts: the interface that has it is to be captured on. While none has it, the one that
    is captured on is kept, for it was only renamed.

    Args:
        name: the wanted name.
        index: of the interface that is captured on.

    Attributes:
        index: None where none is captured on.
        known_as: the present name.
    """

    def __init__(self, name: str, index: int) -> None:
        self.name = self.known_as = name
        self.index: int | None = index

    def look(self, sight: Sight) -> Ailment | None:
        """What ails it: `replaced` asks to capture on `sight.named` instead, `gone` to give the ring back."""
        if sight.named is not None and sight.named != self.index:
            self.known_as = self.name
            return "replaced"
        if self.index is None or sight.name is None:
            return "gone"
        self.known_as = sight.name
        return None if sight.up else "down"
