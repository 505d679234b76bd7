"""New traffic with a share of old traffic in between: what is new is learned, the old not forgotten."""

from torch.utils.data import Dataset

from ecustream.errors import ConfigError
from training.crops import Item

__all__ = ["Replay"]


class Replay(Dataset[Item]):
    """Items of two data sets, the old ones evenly spread among the new ones.

    Of the first n items floor(n x share) are old, whatever n: which they are depends on the number alone.
    Both data sets are gone through in their own order.

    Args:
        new: as many items as come of it.
        old: as many items as come of it.
        count: items in all.
        share: of old items, more than 0 and less than 1.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """

    def __init__(self, new: Dataset[Item], old: Dataset[Item], count: int, share: float) -> None:
        if not 0 < share < 1:
            raise ConfigError(f"replay_share is {share}, but must be more than 0 and less than 1")
        self._new = new
        self._old = old
        self._count = count
        self._share = share

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._count:
            raise IndexError(index)
        before = self._old_of(index)
        return self._old[before] if self._old_of(index + 1) > before else self._new[index - before]

    def _old_of(self, count: int) -> int:
        return int(count * self._share)
