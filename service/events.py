"""From the headers and the body of a delivery to the object that was written, or to why it is none of ours.

Knows every envelope that Google Cloud sends about a written object, and no web framework:

- a CloudEvent `google.cloud.storage.object.v1.finalized`, binary or structured (Eventarc);
- a Pub/Sub push message of a bucket notification, as it is or inside a CloudEvent
  `google.cloud.pubsub.topic.v1.messagePublished`;
- a CloudEvent `google.cloud.audit.log.v1.written` about `storage.objects.create`.

The object's name is taken from the body, never from `ce-subject`, whose encoding is not certain.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Annotated, Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event
from cloudevents.core.exceptions import BaseCloudEventException
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, ValidationError

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

_ATTRIBUTES = frozenset({"specversion", "type", "source", "id", "datacontenttype", "data", "data_base64"})
"""What is read of a CloudEvent. The rest is left out, so that no odd value there costs an image."""

_Name = Annotated[str, StringConstraints(min_length=1)]


@dataclass(frozen=True, slots=True)
class ObjectFinalized:
    """An object that was written."""

    location: ObjectLocation
    generation: int | None
    """None where the envelope does not say: the live one is meant."""
    resource: StoredObject | None
    """None where the envelope says too little: storage has to be asked."""


@dataclass(frozen=True, slots=True)
class IgnoredEvent:
    """An event that is understood, and asks nothing of us."""

    reason: str


class _Resource(BaseModel):
    """An object resource of the JSON API; integers come as strings or as numbers."""

    bucket: _Name
    name: _Name
    generation: int
    size: int
    timeCreated: AwareDatetime  # noqa: N815 - the API's name
    contentType: str = ""  # noqa: N815
    contentEncoding: str = ""  # noqa: N815
    metadata: dict[str, str] = Field(default_factory=dict)


class _BareResource(BaseModel):
    bucket: _Name
    name: _Name
    generation: int | None = None


class _NotificationAttributes(BaseModel):
    """What a bucket notification says outside its payload."""

    bucketId: _Name  # noqa: N815
    objectId: _Name  # noqa: N815
    objectGeneration: int | None = None  # noqa: N815


def decode(headers: Mapping[str, str], body: bytes) -> ObjectFinalized | IgnoredEvent:
    """Find the written object in a delivery.

    Args:
        headers: of the request, names in any case.
        body: of the request.

    Raises:
        NotAnEvent: there is no envelope at all.
        UnusableEvent: there is one, but what it carries cannot be used.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    if b"\\u" in body:
        _refuse_lone_surrogates(body)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type.startswith("application/cloudevents-batch"):
        raise UnusableEvent("a batch of CloudEvents; send them one by one")
    if content_type.startswith("application/cloudevents"):
        return _from_cloud_event(_structured(headers, body))
    if any(name.startswith("ce-") for name in headers):
        return _from_cloud_event(_binary(headers, body))
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        raise NotAnEvent(f"no event: neither ce- headers nor a JSON body. Expected {EXPECTED}") from None
    if not (isinstance(envelope, dict) and "message" in envelope):
        raise NotAnEvent(f"no event: neither ce- headers nor a 'message' in the body. Expected {EXPECTED}")
    return _from_push(envelope)


def _structured(headers: Mapping[str, str], body: bytes) -> BaseCloudEvent:
    envelope = _json(body, "the structured CloudEvent")
    if not isinstance(envelope, dict):
        raise UnusableEvent("the structured CloudEvent is no JSON object")
    known = {name: value for name, value in envelope.items() if name in _ATTRIBUTES}
    try:
        return from_structured_event(HTTPMessage(dict(headers), json.dumps(known).encode()))
    except (BaseCloudEventException, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnusableEvent(f"the structured CloudEvent cannot be read: {error}") from error


def _binary(headers: Mapping[str, str], body: bytes) -> BaseCloudEvent:
    known = {name: value for name, value in headers.items() if name.removeprefix("ce-") in _ATTRIBUTES}
    # The media type of the data decides nothing here: only JSON is understood, whatever it is called.
    known["content-type"] = "application/json"
    try:
        return from_binary_event(HTTPMessage(known, body))
    except (BaseCloudEventException, ValueError, TypeError, RecursionError) as error:
        raise UnusableEvent(f"the binary CloudEvent cannot be read: {error}") from error


def _from_cloud_event(event: BaseCloudEvent) -> ObjectFinalized | IgnoredEvent:
    data = event.get_data()
    if isinstance(data, str | bytes):
        data = _json(data, "the CloudEvent's data")
    event_type = event.get_type()
    if event_type == FINALIZED:
        return _from_resource(data)
    if event_type == MESSAGE_PUBLISHED:
        return _from_push(data)
    if event_type == AUDIT_LOG_WRITTEN:
        return _from_audit_log(data)
    return IgnoredEvent(f"events of type {event_type} are not about a new object")


def _from_resource(data: object) -> ObjectFinalized:
    try:
        bare = _BareResource.model_validate(data)
    except ValidationError as error:
        raise UnusableEvent(f"the event does not name an object: {_problems(error)}") from error
    location = ObjectLocation(bare.bucket, bare.name)
    try:
        resource = _Resource.model_validate(data)
        created = resource.timeCreated.astimezone(UTC)
    except (ValidationError, OverflowError):
        return ObjectFinalized(location, bare.generation, None)
    return ObjectFinalized(
        location,
        resource.generation,
        StoredObject(
            location=location,
            generation=resource.generation,
            size=resource.size,
            created=created,
            content_type=resource.contentType,
            content_encoding=resource.contentEncoding,
            metadata=resource.metadata,
        ),
    )


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
        return _from_resource(_json(_base64(message["data"]), "the Pub/Sub message's data"))
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


def _base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise UnusableEvent("the Pub/Sub message's data is no string")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise UnusableEvent(f"the Pub/Sub message's data is no base64: {error}") from error


def _json(text: str | bytes, what: str) -> Any:  # noqa: ANN401 - whatever the JSON holds
    try:
        parsed = json.loads(text)
        _refuse_lone_surrogates(text)
    except (ValueError, RecursionError) as error:
        raise UnusableEvent(f"{what} is no JSON: {error}") from error
    return parsed


def _refuse_lone_surrogates(text: str | bytes) -> None:
    """Refuse escaped halves of characters, which no object's name has and no answer can carry."""
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UnusableEvent(f"the event has half a character in a text: {error}") from error
    except (ValueError, RecursionError):
        return  # Not JSON at all; who reads it says so.


def _problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'data'}: {item['msg']}" for item in error.errors())
