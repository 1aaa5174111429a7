"""Errors of the client libraries to the service's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import google.auth.exceptions
import requests
import urllib3
from google.api_core import exceptions as api

from service.errors import BucketNotFound, ObjectNotFound, PermissionMissing, StorageRefused, StorageUnavailable
from service.storage.addresses import FolderLocation, ObjectLocation
from service.storage.media import error_message

RETRY_SECONDS = 30
"""So long the client tries a request again."""
_LONGEST_MESSAGE = 300

_READER = "roles/storage.objectViewer on the bucket"
_WRITER = (
    "roles/storage.objectCreator on the bucket, "
    "or roles/storage.objectUser where an existing thumbnail has to be replaced"
)


@contextmanager
def errors_translated(
    action: Literal["list", "describe", "read", "write"], location: ObjectLocation | FolderLocation
) -> Iterator[None]:
    """Raise the service's own errors instead of those of the client libraries, which stay chained as the cause."""
    what = f"cannot {action} {location}"
    try:
        yield
    except api.NotFound as error:
        if action in {"list", "write"}:
            raise BucketNotFound(f"{what}: there is no bucket gs://{location.bucket}") from error
        raise ObjectNotFound(f"{what}: it, or this generation of it, does not exist") from error
    except (api.Forbidden, api.Unauthorized) as error:
        role = _WRITER if action == "write" else _READER
        raise PermissionMissing(f"{what}: {error_text(error)}. Grant the service account {role}") from error
    except api.BadRequest as error:
        # A listing is about no image, and in a requester-pays bucket the request is wrong, and not the object.
        refused = action != "list" and "user project" not in str(error).lower()
        raise (StorageRefused if refused else StorageUnavailable)(f"{what}: {error_text(error)}") from error
    except google.auth.exceptions.GoogleAuthError as error:
        raise StorageUnavailable(f"{what}: no access token could be had: {error}") from error
    except (api.GoogleAPIError, requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise StorageUnavailable(f"{what}: {error_text(error)}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StorageUnavailable(f"{what}: storage's answer is malformed: {error!r}") from error


def error_text(error: Exception) -> str:
    """Return what storage said, in short."""
    if isinstance(error, api.RetryError) and error.cause:
        return f"given up after {RETRY_SECONDS} s of retries: {error_text(error.cause)}"
    if isinstance(error, api.GoogleAPICallError):
        # The client library puts the address of the request first, which is longer than what storage says.
        said = error.message if error.response is None else error_message(error.response.content)
        return f"HTTP {error.code} from Cloud Storage ({' '.join(said.split())[:_LONGEST_MESSAGE]})"
    return str(error)
