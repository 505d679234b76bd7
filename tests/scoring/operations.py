"""Counts the tensor operations that run, for tests of what a pass does."""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Operations"]


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the tensor operations that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operation and run it."""
        self.seen[str(func.overloadpacket)] += 1
        return func(*args, **(kwargs or {}))
