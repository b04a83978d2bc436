"""JSON objects whose fields are checked as they are taken out: nothing in a file is trusted unchecked."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from handgrad.errors import UserError, require_known, require_whole, shown

Made = TypeVar("Made")


@dataclass(frozen=True)
class Table:
    """A JSON object. Its errors say where it stands and what would help."""

    where: str
    """The file, and the place in it."""
    fields: dict[str, Any]
    remedy: str = "Take another copy of it."

    @classmethod
    def parse(cls, text: str | bytes, where: str, remedy: str = remedy) -> "Table":
        """The object that `text` holds; `UserError` where it holds something else."""
        try:
            fields = json.loads(text)
            _require_unicode(text, fields)
        except (ValueError, RecursionError) as error:  # what Unicode has against a text is a ValueError
            raise UserError(f"{where} is no JSON ({_reason(error)}). {remedy}") from error
        if not isinstance(fields, dict):
            raise UserError(f"{where} must be a JSON object; got {shown(fields)}. {remedy}")
        return cls(where, fields, remedy)

    def whole(self, name: str, least: int = 0) -> int:
        """The whole number `name`, at least `least`."""
        value = self._get(name)
        try:
            require_whole(name, value, least)
        except UserError as error:
            raise self.error(str(error)) from error
        return value

    def number(self, name: str, least: float = 0.0, most: float = 1e300) -> float:
        """The number `name`, from `least` to `most`."""
        return self._number(name, self._get(name), least, most)

    def numbers(self, name: str, least: float = 0.0, most: float = 1e300) -> list[float]:
        """The list `name` of numbers from `least` to `most`."""
        return [self._number(name, value, least, most) for value in self._list(name, self._get(name))]

    def rows(self, name: str, least: float = 0.0, most: float = 1e300) -> list[list[float]]:
        """The list `name` of lists of numbers from `least` to `most`."""
        rows = [self._list(name, row) for row in self._list(name, self._get(name))]
        return [[self._number(name, value, least, most) for value in row] for row in rows]

    def text(self, name: str, choices: Sequence[str] = ()) -> str:
        """The text `name`, one of `choices` where there are any."""
        value = self._get(name)
        if not isinstance(value, str):
            raise self.error(f"{name} must be text; got {shown(value)}.")
        if choices:
            try:
                require_known(name, value, choices)
            except UserError as error:
                raise self.error(str(error)) from error
        return value

    def table(self, name: str) -> "Table":
        """The object `name`."""
        value = self._get(name)
        if not isinstance(value, dict):
            raise self.error(f"{name} must be a JSON object; got {shown(value)}.")
        return Table(f"{self.where}: {shown(name)}", value, self.remedy)

    def make(self, kind: type[Made]) -> Made:
        """A dataclass that checks its fields itself: exactly these, no number beyond 2^63."""
        known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        for lacking in sorted(known - self.fields.keys()):
            self._get(lacking)
        for unknown in sorted(self.fields.keys() - known):
            raise self.error(f"This version of handgrad knows no {shown(unknown)}.")
        for name, value in self.fields.items():
            if isinstance(value, int) and abs(value) >= 1 << 63:
                raise self.error(f"{name} must be below 2^63; got {shown(value)}.")
        try:
            return kind(**self.fields)
        except UserError as error:
            raise self.error(str(error)) from error

    def error(self, sentence: str) -> UserError:
        """What is wrong with this table, to be raised."""
        return UserError(f"{self.where}: {sentence} {self.remedy}")

    def _number(self, name: str, value: Any, least: float, most: float) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        try:
            number = float(value) if is_number else math.nan
        except OverflowError:
            number = math.nan
        if not least <= number <= most:
            raise self.error(f"{name} must be a number from {least:g} to {most:g}; got {shown(value)}.")
        return number

    def _list(self, name: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.error(f"{name} must be a list; got {shown(value)}.")
        return value

    def _get(self, name: str) -> Any:
        if name not in self.fields:
            raise UserError(f"{self.where} has no {name}. {self.remedy}")
        return self.fields[name]


def _require_unicode(text: str | bytes, fields: Any) -> None:
    """Raise `UnicodeEncodeError` where an escape in JSON is half a surrogate pair, which no text holds."""
    letters = text if isinstance(text, str) else text.decode("latin-1")
    if "\\ud" in letters.lower():
        json.dumps(fields, ensure_ascii=False).encode()


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
