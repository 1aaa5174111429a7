"""Every failure this service raises on purpose, as one tree.

An error has a code for programs and a sentence for people, and its class says if a retry may help. HTTP statuses and
exit statuses are elsewhere: each in one table, in `web/app.py` and `process.py`.

    ServiceError
    ├── InvalidValue           a setting or a request field has an invalid value
    ├── WrongSettings          one or more settings are missing or invalid
    ├── CredentialsMissing     no Google credentials found
    ├── OutsideFence           the folder is outside INPUT_FOLDER
    ├── ForeignPage            a page of another host made the browser call
    ├── NotAnEvent             the request carries no event
    ├── UnusableEvent          the event's content cannot be used
    ├── ObjectNotFound         the object, or this generation of it, does not exist
    ├── NameTaken              the name holds another generation than expected
    ├── ImageRejected          the image can never become a thumbnail
    │   ├── EmptyObject            it has no bytes
    │   ├── SourceTooLarge         it has too many bytes
    │   ├── PictureTooLarge        it has too many pixels, or decoding takes too much memory
    │   ├── UnsupportedFormat      it is in no supported format
    │   ├── CorruptImage           it breaks the rules of its format, or ends too early
    │   ├── SourceGone             it was deleted after it was listed
    │   ├── StorageRefused         Cloud Storage calls the request invalid
    │   └── NoFreeName             its thumbnail's name is too long or taken
    └── RetryLater             a retry may work
        ├── StorageUnavailable     Cloud Storage does not answer, or cannot now
        ├── PermissionMissing      the service account lacks a role
        ├── BucketNotFound         the bucket does not exist
        ├── Overloaded             too many images are in flight
        ├── ShuttingDown           this instance is shutting down
        └── InternalError          a defect of this service
"""

from typing import ClassVar

_LONGEST_ECHO = 1100
"""Most characters of a value that a message repeats. The longest object name fits."""


class ServiceError(Exception):
    """Base class. The text is for people: what is wrong, with which value, and what to do."""

    code: ClassVar[str] = "error"


class InvalidValue(ServiceError, ValueError):
    """A setting or a request field has an invalid value."""

    code = "invalid_value"

    def __init__(self, field: str, value: object, problem: str) -> None:
        """Name the field, its value as given (cut if it is long), and what is wrong with it."""
        shown = repr(value)
        if len(shown) > _LONGEST_ECHO:
            shown = f"{shown[:_LONGEST_ECHO]}…"
        super().__init__(f"{field}: {shown} {problem}")
        self.field = field
        self.value = value
        self.problem = problem


class WrongSettings(ServiceError):
    """One or more settings are missing or invalid. The text has one line for each."""

    code = "wrong_settings"


class CredentialsMissing(ServiceError):
    """No Google credentials were found where the client library looks for them."""

    code = "credentials_missing"


class OutsideFence(ServiceError):
    """The requested folder is outside INPUT_FOLDER."""

    code = "outside_fence"


class ForeignPage(ServiceError):
    """A web page of another host made a browser call the service."""

    code = "foreign_page"


class NotAnEvent(ServiceError):
    """A request to `/events` carries no event."""

    code = "not_an_event"


class UnusableEvent(ServiceError):
    """The event's envelope is recognised, but its content cannot be used."""

    code = "unusable_event"


class ObjectNotFound(ServiceError):
    """The object, or the requested generation of it, does not exist."""

    code = "object_not_found"


class NameTaken(ServiceError):
    """The name to write to holds another generation than expected."""

    code = "name_taken"


class ImageRejected(ServiceError):
    """The image can never become a thumbnail: a retry changes nothing."""

    code = "rejected"


class EmptyObject(ImageRejected):
    """The object has no bytes."""

    code = "empty_object"


class SourceTooLarge(ImageRejected):
    """The object has more bytes than MAX_SOURCE_BYTES."""

    code = "source_too_large"


class PictureTooLarge(ImageRejected):
    """The picture has more pixels than MAX_IMAGE_PIXELS, or decoding it takes more than MEMORY_BUDGET."""

    code = "picture_too_large"


class UnsupportedFormat(ImageRejected):
    """The bytes are not in a supported image format."""

    code = "unsupported_format"


class CorruptImage(ImageRejected):
    """The bytes start like an image, then break the rules of its format or end too early."""

    code = "corrupt_image"


class SourceGone(ImageRejected):
    """The object was deleted after it was listed and before it was read."""

    code = "source_gone"


class StorageRefused(ImageRejected):
    """Cloud Storage says that the request about this object is invalid."""

    code = "storage_refused"


class NoFreeName(ImageRejected):
    """The thumbnail's name is too long, or other objects hold both it and its variant with a suffix."""

    code = "no_free_name"


class RetryLater(ServiceError):
    """A retry may work."""

    code = "retry_later"
    retry_after: ClassVar[int | None] = None
    """Seconds to wait before a retry, if known."""


class StorageUnavailable(RetryLater):
    """Cloud Storage did not answer, or could not serve the request, until the retries ended."""

    code = "storage_unavailable"


class PermissionMissing(RetryLater):
    """The service account lacks a permission. Works once the role is granted."""

    code = "permission_missing"


class BucketNotFound(RetryLater):
    """The bucket does not exist. Works once it is created."""

    code = "bucket_not_found"


class Overloaded(RetryLater):
    """Too many images are in flight, or too little memory is free, for longer than a caller should wait."""

    code = "overloaded"
    retry_after = 10


class ShuttingDown(RetryLater):
    """This instance is shutting down. Another one can do the work."""

    code = "shutting_down"
    retry_after = 1


class InternalError(RetryLater):
    """A defect of this service. The log has the traceback; the answer does not."""

    code = "internal_error"
