"""Every failure this service raises on purpose, as one tree.

An error says what happened, in a code for programs and a sentence for people, and whether trying again may help.
It knows nothing of HTTP or of exit statuses: `app.py` and `job.py` each have one table for that.

    ServiceError
    ├── InvalidValue           a setting or a request field that cannot be
    ├── WrongSettings          all that is wrong with the environment, at once
    ├── CredentialsMissing     nobody to be, at Google
    ├── OutsideFence           a folder that INPUT_FOLDER does not hold
    ├── ForeignPage            a browser was told to call by another host's page
    ├── NotAnEvent             a delivery without any envelope
    ├── UnusableEvent          an envelope that is recognised, but what it carries cannot be used
    ├── ObjectNotFound         the object, or this generation of it, is not there (any more)
    ├── NameTaken              a write that expected another generation, or none
    ├── ImageRejected          an image that will never work
    │   ├── EmptyObject
    │   ├── SourceTooLarge
    │   ├── PictureTooLarge
    │   ├── UnsupportedFormat
    │   ├── CorruptImage
    │   ├── SourceGone
    │   ├── StorageRefused
    │   └── NoFreeName
    └── RetryLater             may work later
        ├── StorageUnavailable
        ├── PermissionMissing
        ├── BucketNotFound
        ├── Overloaded
        ├── ShuttingDown
        └── InternalError
"""

from typing import ClassVar

_LONGEST_ECHO = 1100
"""Of a value in a message, in characters; the longest name in storage fits."""


class ServiceError(Exception):
    """Base of all of them. The text is meant for people: what was wrong, with which value, what to do."""

    code: ClassVar[str] = "error"


class InvalidValue(ServiceError, ValueError):
    """A setting or a request field has a value that cannot be."""

    code = "invalid_value"

    def __init__(self, field: str, value: object, problem: str) -> None:
        """Name the field, the value as given (its beginning, where it is long), and what is wrong with it."""
        shown = repr(value)
        if len(shown) > _LONGEST_ECHO:
            shown = f"{shown[:_LONGEST_ECHO]}…"
        super().__init__(f"{field}: {shown} {problem}")
        self.field = field
        self.value = value
        self.problem = problem


class WrongSettings(ServiceError):
    """The environment does not make a valid set of settings; the text has a line for each problem."""

    code = "wrong_settings"


class CredentialsMissing(ServiceError):
    """No Google credentials were found in the places where the client library looks."""

    code = "credentials_missing"


class OutsideFence(ServiceError):
    """A folder was asked for that lies outside INPUT_FOLDER."""

    code = "outside_fence"


class ForeignPage(ServiceError):
    """A web page of another host has a browser call the service."""

    code = "foreign_page"


class NotAnEvent(ServiceError):
    """A request to the event door carries no event at all."""

    code = "not_an_event"


class UnusableEvent(ServiceError):
    """An event's envelope is recognised, but what it carries cannot be used."""

    code = "unusable_event"


class ObjectNotFound(ServiceError):
    """The object, or the generation of it that was asked for, is not there."""

    code = "object_not_found"


class NameTaken(ServiceError):
    """The name to write to does not hold the generation that the write expected."""

    code = "name_taken"


class ImageRejected(ServiceError):
    """The image will never become a thumbnail, however often it is tried."""

    code = "rejected"


class EmptyObject(ImageRejected):
    """The object has no bytes."""

    code = "empty_object"


class SourceTooLarge(ImageRejected):
    """The object has more bytes than MAX_SOURCE_BYTES."""

    code = "source_too_large"


class PictureTooLarge(ImageRejected):
    """The picture has more pixels than MAX_IMAGE_PIXELS."""

    code = "picture_too_large"


class UnsupportedFormat(ImageRejected):
    """The bytes are of no image format that is read here."""

    code = "unsupported_format"


class CorruptImage(ImageRejected):
    """The bytes begin like an image and then break the rules of its format, or end too early."""

    code = "corrupt_image"


class SourceGone(ImageRejected):
    """The object was deleted between its listing and its reading."""

    code = "source_gone"


class StorageRefused(ImageRejected):
    """Cloud Storage says that the request itself is wrong."""

    code = "storage_refused"


class NoFreeName(ImageRejected):
    """The thumbnail's name would be too long, or it and its variant are both held by other objects."""

    code = "no_free_name"


class RetryLater(ServiceError):
    """The same thing may work later."""

    code = "retry_later"
    retry_after: ClassVar[int | None] = None
    """Seconds after which a retry makes sense, where known."""


class StorageUnavailable(RetryLater):
    """Cloud Storage did not answer, or answered that it cannot now, until the client's retries were used up."""

    code = "storage_unavailable"


class PermissionMissing(RetryLater):
    """The service account may not do this. It works as soon as somebody grants the role."""

    code = "permission_missing"


class BucketNotFound(RetryLater):
    """The bucket does not exist. It works as soon as somebody makes it."""

    code = "bucket_not_found"


class Overloaded(RetryLater):
    """All places for images in flight were taken for longer than a caller should wait."""

    code = "overloaded"
    retry_after = 10


class ShuttingDown(RetryLater):
    """This instance is about to end; another one does it."""

    code = "shutting_down"
    retry_after = 1


class InternalError(RetryLater):
    """A defect of this service. The traceback is in the log, not in the answer."""

    code = "internal_error"
