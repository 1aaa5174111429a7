"""Every failure this service raises on purpose, as one tree.

An error has a code for programs and a sentence for people, and its class says if a retry may help. HTTP statuses and
exit statuses are elsewhere: each in one table, in `web/answers.py` and `process.py`.

    ServiceError
    ├── InvalidValue
    │   ├── OutsideFence
    │   └── TooExpensive
    ├── WrongSettings, CredentialsMissing
    ├── ForeignPage, RequestTooLarge, NotAnEvent, UnusableEvent
    ├── ObjectNotFound, NameTaken
    ├── ImageRejected
    │   ├── EmptyObject, SourceTooLarge, PictureTooLarge
    │   ├── UnsupportedFormat, CorruptImage
    │   ├── DecoderCrashed, DecoderTimedOut
    │   └── SourceGone, StorageRefused, NoFreeName
    └── RetryLater
        ├── StorageUnavailable, PermissionMissing, BucketNotFound
        └── Overloaded, ShuttingDown, DecoderUnavailable, InternalError
"""

from collections.abc import Mapping
from typing import ClassVar

_LONGEST_ECHO = 1100
"""Most characters of a value that a message repeats. The longest object name fits."""


class ServiceError(Exception):
    """Base class. The text is for people: what is wrong, with which value, and what to do."""

    code: ClassVar[str] = "error"

    def __init_subclass__(cls, *, code: str) -> None:
        super().__init_subclass__()
        cls.code = code


class InvalidValue(ServiceError, ValueError, code="invalid_value"):
    """A setting or a request field has an invalid value."""

    def __init__(self, field: str, value: object, problem: str) -> None:
        """Name the field, its value as given (cut if it is long), and what is wrong with it."""
        shown = repr(value)
        if len(shown) > _LONGEST_ECHO:
            shown = f"{shown[:_LONGEST_ECHO]}…"
        super().__init__(f"{field}: {shown} {problem}")
        self.field = field
        self.value = value
        self.problem = problem


class WrongSettings(ServiceError, code="wrong_settings"):
    """One or more settings are missing or invalid. The text has one line for each."""


class CredentialsMissing(ServiceError, code="credentials_missing"):
    """No Google credentials were found where the client library looks for them."""


class OutsideFence(InvalidValue, code="outside_fence"):
    """The folder or the source that a request names is outside INPUT_FOLDER."""


class TooExpensive(InvalidValue, code="too_expensive"):
    """A run costs more than it may."""

    def __init__(self, field: str, value: object, problem: str, estimate: Mapping[str, object] | None = None) -> None:
        """Name the limit, and what the run is estimated to cost; nothing if it has begun."""
        super().__init__(field, value, problem)
        self.estimate = estimate


class ForeignPage(ServiceError, code="foreign_page"):
    """A web page of another host made a browser call the service."""


class RequestTooLarge(ServiceError, code="request_too_large"):
    """The body of a request has more bytes than any request needs."""


class NotAnEvent(ServiceError, code="not_an_event"):
    """A request to `/events` carries no event."""


class UnusableEvent(ServiceError, code="unusable_event"):
    """The event's envelope is recognised, but its content cannot be used."""


class ObjectNotFound(ServiceError, code="object_not_found"):
    """The object, or the requested generation of it, does not exist."""


class NameTaken(ServiceError, code="name_taken"):
    """The name to write to holds another generation than expected."""


class ImageRejected(ServiceError, code="rejected"):
    """The image can never become a thumbnail: a retry changes nothing."""


class EmptyObject(ImageRejected, code="empty_object"):
    """The object has no bytes."""


class SourceTooLarge(ImageRejected, code="source_too_large"):
    """The object has more bytes than MAX_SOURCE_BYTES."""


class PictureTooLarge(ImageRejected, code="picture_too_large"):
    """The picture has more pixels than MAX_IMAGE_PIXELS, or decoding it takes more than MEMORY_BUDGET."""


class UnsupportedFormat(ImageRejected, code="unsupported_format"):
    """The bytes are not in a supported image format."""


class CorruptImage(ImageRejected, code="corrupt_image"):
    """The bytes start like an image, then break the rules of its format or end too early."""


class DecoderCrashed(ImageRejected, code="decoder_crashed"):
    """The picture ends its decoder's process, each time it is tried."""


class DecoderTimedOut(ImageRejected, code="decoder_timed_out"):
    """Decoding the picture takes longer than MAX_DECODE_SECONDS."""


class SourceGone(ImageRejected, code="source_gone"):
    """The object was deleted after it was listed and before it was read."""


class StorageRefused(ImageRejected, code="storage_refused"):
    """Cloud Storage says that the request about this object is invalid."""


class NoFreeName(ImageRejected, code="no_free_name"):
    """The thumbnail's name is too long, or other objects hold both it and its variant with a suffix."""


class RetryLater(ServiceError, code="retry_later"):
    """A retry may work."""

    retry_after: ClassVar[int | None] = None
    """Seconds to wait before a retry, if known."""


class StorageUnavailable(RetryLater, code="storage_unavailable"):
    """Cloud Storage did not answer, or could not serve the request, until the retries ended."""


class PermissionMissing(RetryLater, code="permission_missing"):
    """The service account lacks a permission. Works once the role is granted."""


class BucketNotFound(RetryLater, code="bucket_not_found"):
    """The bucket does not exist. Works once it is created."""


class Overloaded(RetryLater, code="overloaded"):
    """Too much is under way: images, memory or pages for longer than a caller should wait, or too many runs."""

    retry_after = 10


class ShuttingDown(RetryLater, code="shutting_down"):
    """This instance is shutting down. Another one can do the work."""

    retry_after = 1


class DecoderUnavailable(RetryLater, code="decoder_unavailable"):
    """No process that decodes could be started."""


class InternalError(RetryLater, code="internal_error"):
    """A defect of this service. The log has the traceback; the answer does not."""

    def __init__(self, text: str = "a defect of the service; its log has the traceback") -> None:
        super().__init__(text)
