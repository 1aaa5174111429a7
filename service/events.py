"""Decode a delivery, its headers and body, into the object that was written or a reason to ignore it.

Knows no web framework. Google Cloud reports a written object in these envelopes:

- a CloudEvent `google.cloud.storage.object.v1.finalized`, binary or structured (Eventarc);
- a Pub/Sub push message of a bucket notification: wrapped, unwrapped, or inside a CloudEvent
  `google.cloud.pubsub.topic.v1.messagePublished`;
- a CloudEvent `google.cloud.audit.log.v1.written` about `storage.objects.create`;
- a batch of structured CloudEvents.

Takes the object's name from the body, never from `ce-subject`, whose encoding is not certain.
"""

import base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import from_json, to_json

from service.errors import NotAnEvent, UnusableEvent
from service.storage.addresses import ObjectLocation
from service.storage.base import StoredObject

FINALIZED = "google.cloud.storage.object.v1.finalized"
MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
AUDIT_LOG_WRITTEN = "google.cloud.audit.log.v1.written"

_EXPECTED = (
    f"a CloudEvent in binary mode (headers ce-type, ce-source, ce-id, ce-specversion) or in structured mode "
    f"(Content-Type: application/cloudevents+json), of type {FINALIZED}, or a Pub/Sub push message"
)
_STRUCTURED = "application/cloudevents"
_BATCH = "application/cloudevents-batch"
_PROTOBUF = "application/protobuf"
_PUBSUB_HEADERS = "x-goog-pubsub-"
"""Prefix of the headers with a message's metadata (cloud.google.com/pubsub/docs/payload-unwrapping)."""
_ATTRIBUTES = ("eventType", "bucketId", "objectId", "objectGeneration")
_DATA = "the Pub/Sub message's data"
_NO_NOTIFICATION = "the Pub/Sub message is no bucket notification: it has no attribute 'eventType'"


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


_Name = Annotated[str, StringConstraints(min_length=1)]
_Model = TypeVar("_Model", bound=BaseModel)


class _CloudEvent(BaseModel):
    """The required attributes of a CloudEvent. No other is read, so that no odd value there costs an image."""

    # Nothing here depends on the version or the identifier: they may be missing, but not be malformed.
    specversion: Literal["0.3", "1.0"] = "1.0"
    id: _Name = ""
    source: _Name
    type: _Name


class _ObjectName(BaseModel):
    """The part of an object resource that an event must have."""

    bucket: _Name
    name: _Name
    generation: int | None = None


class _NotificationAttributes(_ObjectName):
    """The same, in the attributes of a bucket notification."""

    model_config = ConfigDict(
        alias_generator={"bucket": "bucketId", "name": "objectId", "generation": "objectGeneration"}.__getitem__
    )


def decode(headers: Mapping[str, str], body: bytes) -> ObjectFinalized | IgnoredEvent:
    """Find the written object in a delivery. Names of headers may be in any case.

    Raises:
        NotAnEvent: there is no envelope.
        UnusableEvent: there is one, but its content cannot be used.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    content_type = _content_type(headers)
    if content_type == _PROTOBUF:
        raise UnusableEvent(
            f"the body is {_PROTOBUF}, and only JSON is read: create the Eventarc trigger again "
            "with --event-data-content-type=application/json"
        )
    if content_type.startswith(_STRUCTURED):
        return _from_structured(_json(body, "the structured CloudEvent"))
    if attributes := {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}:
        return _from_cloud_event(attributes, body or None)
    if "eventtype" in headers:
        return _from_notification(_attributes_in(headers), body)
    return _from_body(headers, body)


def split_batch(headers: Mapping[str, str], body: bytes) -> list[tuple[Mapping[str, str], bytes]] | None:
    """Return the headers and body of each event of a batch, as `decode` takes them; None if this is no batch.

    Raises:
        UnusableEvent: the batch is no JSON array.
    """
    if not _content_type(headers).startswith(_BATCH):
        return None
    events = _json(body, "the batch of CloudEvents")
    if not isinstance(events, list):
        raise UnusableEvent("the batch of CloudEvents is no JSON array")
    return [({"content-type": _STRUCTURED}, to_json(event)) for event in events]


def _content_type(headers: Mapping[str, str]) -> str:
    value = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    return value.partition(";")[0].strip().lower()


def _attributes_in(headers: Mapping[str, str]) -> dict[str, str]:
    """Return a notification's attributes from the headers of an unwrapped push with metadata."""
    named = {name: headers[name.lower()] for name in _ATTRIBUTES if name.lower() in headers}
    # The server decodes headers as Latin-1, and Pub/Sub's attributes are UTF-8.
    with suppress(UnicodeError):
        named |= {name: value.encode("latin-1").decode() for name, value in named.items()}
    return named


def _from_body(headers: Mapping[str, str], body: bytes) -> ObjectFinalized | IgnoredEvent:
    missing = "a 'message' or an object resource in the body"
    try:
        envelope = from_json(body)
        if isinstance(envelope, dict) and "message" in envelope:
            return _from_push(envelope)
        if isinstance(envelope, dict) and envelope.get("kind") == "storage#object":
            # Nothing tells if it was written or deleted, so storage has to be asked.
            return replace(_from_resource(envelope), resource=None)
    except ValueError as error:
        if b'"message"' in body:
            raise UnusableEvent(f"the Pub/Sub push is no JSON: {error}") from error
        missing = "a JSON body"
    if any(name.startswith(_PUBSUB_HEADERS) for name in headers):
        raise UnusableEvent(_NO_NOTIFICATION)
    raise NotAnEvent(f"no event: neither ce- headers nor {missing}. Expected {_EXPECTED}")


def _from_structured(envelope: object) -> ObjectFinalized | IgnoredEvent:
    if not isinstance(envelope, dict):
        raise UnusableEvent("the structured CloudEvent is no JSON object")
    data = envelope.get("data")
    if data is None and "data_base64" in envelope:
        data = _base64(envelope["data_base64"], "the CloudEvent's data_base64")
    return _from_cloud_event(envelope, data)


def _from_cloud_event(attributes: Mapping[str, Any], data: object) -> ObjectFinalized | IgnoredEvent:
    event = _validated(_CloudEvent, attributes, "the CloudEvent cannot be read")
    decoders = {FINALIZED: _from_resource, MESSAGE_PUBLISHED: _from_push, AUDIT_LOG_WRITTEN: _from_audit_log}
    decode_data = decoders.get(event.type)
    if decode_data is None:
        return IgnoredEvent(f"events of type {event.type} are not about a new object")
    return decode_data(_json(data, "the CloudEvent's data") if isinstance(data, str | bytes) else data)


def _from_resource(data: object) -> ObjectFinalized:
    named = _validated(_ObjectName, data, "the event does not name an object")
    resource = None
    # An event without a size does not tell that the object is empty.
    if isinstance(data, Mapping) and "size" in data:
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
        raise UnusableEvent(_NO_NOTIFICATION)
    return _from_notification(attributes, message.get("data"))


def _from_notification(attributes: Mapping[str, Any], data: object) -> ObjectFinalized | IgnoredEvent:
    """Read a notification, whose object resource is bytes if the push is unwrapped, and else base64."""
    if attributes["eventType"] != "OBJECT_FINALIZE":
        return IgnoredEvent(f"bucket notifications of type {attributes['eventType']} are not about a new object")
    if data:
        return _from_resource(_json(data if isinstance(data, bytes) else _base64(data, _DATA), _DATA))
    named = _validated(_NotificationAttributes, attributes, "the notification's attributes do not name an object")
    return ObjectFinalized(ObjectLocation(named.bucket, named.name), named.generation, None)


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


def _validated(model: type[_Model], data: object, complaint: str) -> _Model:
    if not isinstance(data, Mapping):
        raise UnusableEvent(f"{complaint}: it is no JSON object")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc'])) or 'data'}: {item['msg']}" for item in error.errors())
        raise UnusableEvent(f"{complaint}: {'; '.join(problems)}") from error


def _base64(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise UnusableEvent(f"{what} is no string")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise UnusableEvent(f"{what} is no base64: {error}") from error


def _json(text: str | bytes, what: str) -> object:
    # Refuses escaped lone surrogates: no object's name has them, and no answer could carry them.
    try:
        value: object = from_json(text)
    except ValueError as error:
        raise UnusableEvent(f"{what} is no JSON: {error}") from error
    return value
