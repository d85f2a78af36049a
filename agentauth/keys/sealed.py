"""Columns that hold something sealed: declared as such, so that sealing anew finds every one of them."""

from typing import Any

from django.db import models


class SealedField(models.BinaryField):  # type: ignore[type-arg]  # takes none when it runs
    """A ciphertext of `ring.seal`, bound to its row under `purpose`. In the database a plain BinaryField."""

    def __init__(self, *args: Any, purpose: str = "", **kwargs: Any) -> None:
        self.purpose = purpose
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        """As a migration knows it."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.BinaryField", list(args), kwargs
