"""What the plans and the reports of runs have in common as they are kept in storage, where another version reads them.

Unknown fields are ignored. Fields that are not as the service writes them make a record unreadable.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from service.errors import SourceTooLarge

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""Larger plans and reports are not read: a plan for ten thousand tasks has ten mebibytes at most."""

UNREADABLE = (ValidationError, SourceTooLarge)
"""Raised where a record is read and understood."""

VERSION = 1
"""Of the form. It grows if an older service would misread the new one; a field that it may ignore does not count."""

Count = Annotated[int, Field(ge=0, lt=2**63)]


class Record(BaseModel):
    """A plan, or a report or its summary. One without a version is of the first."""

    version: int = Field(VERSION, description="Of the form.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_newer(cls, fields: Any) -> Any:  # noqa: ANN401 - whatever was in storage
        version = fields.get("version") if isinstance(fields, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise PydanticCustomError(
                "newer_version",
                "it was written by a newer version of the service: its form has version {theirs}, and this one reads "
                "version {ours}",
                {"theirs": version, "ours": VERSION},
            )
        return fields


def problem_of(error: ValidationError | SourceTooLarge) -> str:
    """Return the first reason why a record cannot be read, and the field that is to blame, if there is one."""
    if isinstance(error, SourceTooLarge):
        return str(error)
    first = error.errors(include_url=False)[0]
    return ": ".join([*([".".join(map(str, first["loc"]))] if first["loc"] else []), first["msg"]])
