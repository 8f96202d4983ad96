"""Methods of objects that others built, exchanged for a while."""

from collections.abc import Callable
from typing import Any


class Swaps:
    """Remembers what was exchanged, so that it can be put back."""

    def __init__(self) -> None:
        self._former: list[tuple[Any, str, Any]] = []

    def swap(self, owner: Any, name: str, function: Callable) -> None:
        """Let ``owner.name`` be ``function`` from now on, for this object only."""
        self._former.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, function)

    def undo(self) -> None:
        """Put everything back."""
        while self._former:
            owner, name, former = self._former.pop()
            if former is None:
                delattr(owner, name)
            else:
                setattr(owner, name, former)
