"""Decode a delivery, its headers and body, into the object that was written or a reason to ignore it.

Knows the envelopes in which Google Cloud reports a written object, and no web framework:

- a CloudEvent `google.cloud.storage.object.v1.finalized`, binary or structured (Eventarc);
- a Pub/Sub push message of a bucket notification, plain or inside a CloudEvent
  `google.cloud.pubsub.topic.v1.messagePublished`;
- a CloudEvent `google.cloud.audit.log.v1.written` about `storage.objects.create`.

Takes the object's name from the body, never from `ce-subject`, whose encoding is not certain.
"""

import base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Annotated, Any

from cloudevents.core.bindings.common import get_event_factory_for_version
from cloudevents.core.exceptions import CloudEventValidationError
from pydantic import BaseModel, StringConstraints, ValidationError
from pydantic_core import from_json

from service.errors import NotAnEvent, UnusableEvent
from service.storage.addresses import ObjectLocation
from service.storage.base import StoredObject

FINALIZED = "google.cloud.storage.object.v1.finalized"
MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
AUDIT_LOG_WRITTEN = "google.cloud.audit.log.v1.written"

EXPECTED = (
    f"a CloudEvent in binary mode (headers ce-type, ce-source, ce-id, ce-specversion) or in structured mode "
    f"(Content-Type: application/cloudevents+json), of type {FINALIZED}, or a Pub/Sub push message"
)

_REQUIRED_ATTRIBUTES = ("specversion", "type", "source", "id")
"""The attributes that a CloudEvent must have. No other is read, so that no odd value there costs an image."""

_Name = Annotated[str, StringConstraints(min_length=1)]


@dataclass(frozen=True, slots=True)
class ObjectFinalized:
    """An object was written."""

    location: ObjectLocation
    generation: int | None
    """None if the event does not say: the live one is meant."""
    resource: StoredObject | None
    """None if the event says too little, and storage has to be asked."""


@dataclass(frozen=True, slots=True)
class IgnoredEvent:
    """An event that is understood and is not about a new object."""

    reason: str


class _ObjectName(BaseModel):
    """The part of an object resource that an event must have."""

    bucket: _Name
    name: _Name
    generation: int | None = None


class _NotificationAttributes(BaseModel):
    """The object's name in the attributes of a bucket notification."""

    bucketId: _Name  # noqa: N815 - the API's name
    objectId: _Name  # noqa: N815 - the API's name
    objectGeneration: int | None = None  # noqa: N815 - the API's name


def decode(headers: Mapping[str, str], body: bytes) -> ObjectFinalized | IgnoredEvent:
    """Find the written object in a delivery.

    Args:
        headers: of the request, names in any case.
        body: of the request.

    Raises:
        NotAnEvent: there is no envelope.
        UnusableEvent: there is one, but its content cannot be used.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type.startswith("application/cloudevents-batch"):
        raise UnusableEvent("a batch of CloudEvents; send them one by one")
    if content_type.startswith("application/cloudevents"):
        return _from_structured(body)
    attributes = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    if attributes:
        return _from_cloud_event(attributes, body or None)
    return _from_push(_push_envelope(body))


def _push_envelope(body: bytes) -> dict[str, Any]:
    try:
        envelope = from_json(body)
    except ValueError as error:
        if b'"message"' in body:
            raise UnusableEvent(f"the Pub/Sub push is no JSON: {error}") from error
        raise NotAnEvent(f"no event: neither ce- headers nor a JSON body. Expected {EXPECTED}") from None
    if not (isinstance(envelope, dict) and "message" in envelope):
        raise NotAnEvent(f"no event: neither ce- headers nor a 'message' in the body. Expected {EXPECTED}")
    return envelope


def _from_structured(body: bytes) -> ObjectFinalized | IgnoredEvent:
    envelope = _json(body, "the structured CloudEvent")
    if not isinstance(envelope, dict):
        raise UnusableEvent("the structured CloudEvent is no JSON object")
    data = envelope.get("data")
    if data is None and "data_base64" in envelope:
        data = _base64(envelope["data_base64"], "the CloudEvent's data_base64")
    return _from_cloud_event(envelope, data)


def _from_cloud_event(attributes: Mapping[str, Any], data: object) -> ObjectFinalized | IgnoredEvent:
    required = {name: attributes[name] for name in _REQUIRED_ATTRIBUTES if name in attributes}
    try:
        event_type = get_event_factory_for_version(required.get("specversion", "1.0"))(required, None).get_type()
    except CloudEventValidationError as error:
        raise UnusableEvent(f"the CloudEvent cannot be read: {error}") from error
    if event_type not in {FINALIZED, MESSAGE_PUBLISHED, AUDIT_LOG_WRITTEN}:
        return IgnoredEvent(f"events of type {event_type} are not about a new object")
    if isinstance(data, str | bytes):
        data = _json(data, "the CloudEvent's data")
    if event_type == FINALIZED:
        return _from_resource(data)
    return _from_push(data) if event_type == MESSAGE_PUBLISHED else _from_audit_log(data)


def _from_resource(data: Any) -> ObjectFinalized:  # noqa: ANN401 - any JSON
    try:
        named = _ObjectName.model_validate(data)
    except ValidationError as error:
        raise UnusableEvent(f"the event does not name an object: {_problems(error)}") from error
    resource: StoredObject | None = None
    # An event without a size does not tell that the object is empty.
    if "size" in data:
        with suppress(KeyError, TypeError, ValueError, OverflowError):
            complete = StoredObject.from_resource(named.bucket, data)
            resource = replace(complete, created=complete.created.astimezone(UTC))
    return ObjectFinalized(ObjectLocation(named.bucket, named.name), named.generation, resource)


def _from_push(envelope: object) -> ObjectFinalized | IgnoredEvent:
    message = envelope.get("message") if isinstance(envelope, dict) else None
    if not isinstance(message, dict):
        raise UnusableEvent("the Pub/Sub push has no 'message' object")
    attributes = message.get("attributes") or {}
    if not isinstance(attributes, dict) or "eventType" not in attributes:
        raise UnusableEvent("the Pub/Sub message is no bucket notification: it has no attribute 'eventType'")
    if attributes["eventType"] != "OBJECT_FINALIZE":
        return IgnoredEvent(f"bucket notifications of type {attributes['eventType']} are not about a new object")
    if message.get("data"):
        what = "the Pub/Sub message's data"
        return _from_resource(_json(_base64(message["data"], what), what))
    try:
        named = _NotificationAttributes.model_validate(attributes)
    except ValidationError as error:
        raise UnusableEvent(f"the notification's attributes do not name an object: {_problems(error)}") from error
    return ObjectFinalized(ObjectLocation(named.bucketId, named.objectId), named.objectGeneration, None)


def _from_audit_log(entry: object) -> ObjectFinalized | IgnoredEvent:
    payload = entry.get("protoPayload") if isinstance(entry, dict) else None
    if not isinstance(payload, dict):
        raise UnusableEvent("the audit-log entry has no 'protoPayload'")
    if payload.get("methodName") != "storage.objects.create":
        return IgnoredEvent(f"audit-log entries about {payload.get('methodName')} are not about a new object")
    prefix, _, rest = str(payload.get("resourceName", "")).partition("/buckets/")
    bucket, separator, name = rest.partition("/objects/")
    if not (prefix and bucket and separator and name):
        raise UnusableEvent(
            f"the audit-log entry's resourceName is {payload.get('resourceName')!r} "
            "and not projects/_/buckets/BUCKET/objects/NAME"
        )
    return ObjectFinalized(ObjectLocation(bucket, name), None, None)


def _base64(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise UnusableEvent(f"{what} is no string")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise UnusableEvent(f"{what} is no base64: {error}") from error


def _json(text: str | bytes, what: str) -> Any:  # noqa: ANN401 - any JSON
    # Refuses escaped lone surrogates: no object's name has them, and no answer could carry them.
    try:
        return from_json(text)
    except ValueError as error:
        raise UnusableEvent(f"{what} is no JSON: {error}") from error


def _problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'data'}: {item['msg']}" for item in error.errors())
