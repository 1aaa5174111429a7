"""The demo's own world: emulators, a bucket, the service, and the door to its events, assembled."""

from contextlib import ExitStack
from dataclasses import dataclass
from urllib.request import getproxies

from service.demo.console import Console
from service.demo.deliveries import EventDoor, event_door
from service.demo.emulators import (
    LocalWorldError,
    ServiceProcess,
    create_topic,
    make_bucket,
    pubsub_emulator,
    pubsub_missing,
    service_process,
    storage_emulator,
)

BUCKET = "demo-photos"
FOLDER = "photos"
TOPIC = "uploads"


@dataclass(frozen=True, slots=True)
class World:
    """What runs."""

    storage: str
    """URL of the storage emulator."""
    pubsub: str | None
    """`host:port` of the Pub/Sub emulator, where there is one."""
    service: ServiceProcess
    door: EventDoor
    console: Console


def start(stack: ExitStack, console: Console) -> World:
    """Start everything, and leave its end to the stack.

    Raises:
        LocalWorldError: something that is needed does not start. Pub/Sub is not.
    """
    pubsub = None
    missing = pubsub_missing()
    if missing is None:
        try:
            pubsub = stack.enter_context(pubsub_emulator())
        except LocalWorldError as error:
            missing = str(error)
    if pubsub:
        # The storage emulator publishes from its first object on, and to a topic that is not there nothing arrives.
        create_topic(pubsub, TOPIC)
        console.line(f"  Pub/Sub   http://{pubsub}  (Google's emulator)")
    else:
        console.line(f"  Pub/Sub   none, so the demo delivers the events itself: {missing}")
    storage = stack.enter_context(storage_emulator(pubsub=pubsub, topic=TOPIC))
    console.line(f"  storage   {storage}  (emulator, in memory)")
    make_bucket(storage, BUCKET)
    service = stack.enter_context(service_process(settings_for(storage)))
    console.line(f"  service   {service.url}  for gs://{BUCKET}/{FOLDER}")
    return World(storage, pubsub, service, stack.enter_context(event_door(service.url)), console)


def settings_for(storage: str) -> dict[str, str]:
    """Return the settings of a service that works on the demo's bucket."""
    settings = {"INPUT_FOLDER": f"gs://{BUCKET}/{FOLDER}", "OUTPUT_BUCKET": "", "STORAGE_EMULATOR_HOST": storage}
    if getproxies():
        settings |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
    return settings
