"""Deliver events as Eventarc does."""

from typing import Any

import httpx

from service.events import FINALIZED


def deliver(client: httpx.Client, resource: dict[str, Any], **headers: str) -> httpx.Response:
    """Post an object's resource; `headers` add to those of the event or replace them."""
    attributes = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-type": FINALIZED,
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{resource.get('bucket')}",
    }
    return client.post("/events", json=resource, headers=attributes | headers)
