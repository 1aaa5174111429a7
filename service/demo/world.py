"""The demo's own world: emulators, a bucket, the service and the door to its events, assembled."""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from urllib.request import getproxies

from service.demo.doors import EventDoor
from service.demo.network import LocalWorldError
from service.demo.processes import ServiceProcess, service_process
from service.demo.pubsub import pubsub_emulator
from service.demo.storage import make_bucket, storage_emulator
from service.demo.terminal import line

BUCKET = "demo-photos"
FOLDER = "photos"


@dataclass(frozen=True, slots=True)
class World:
    """The running parts."""

    storage: str
    """URL of the storage emulator."""
    pubsub: str | None
    """`host:port` of the Pub/Sub emulator, if there is one."""
    service: ServiceProcess
    door: EventDoor


def start(stack: ExitStack) -> World:
    """Start everything, and leave its end to the stack.

    Raises:
        LocalWorldError: a part does not start. The demo does without Pub/Sub.
    """
    pubsub = None
    try:
        pubsub = stack.enter_context(pubsub_emulator())
        line(f"  Pub/Sub   http://{pubsub}  (Google's emulator)")
    except LocalWorldError as error:
        line(f"  Pub/Sub   none, so the demo delivers the events itself: {error}")
    storage = stack.enter_context(storage_emulator(pubsub=pubsub))
    line(f"  storage   {storage}  (emulator, in memory)")
    make_bucket(storage, BUCKET)
    service = stack.enter_context(service_process(settings_for(storage)))
    line(f"  service   {service.url}  for gs://{BUCKET}/{FOLDER}")
    return World(storage, pubsub, service, stack.enter_context(closing(EventDoor(service))))


def settings_for(storage: str) -> dict[str, str]:
    """Return the settings of a service that works on the demo's bucket."""
    settings = {"INPUT_FOLDER": f"gs://{BUCKET}/{FOLDER}", "OUTPUT_BUCKET": "", "STORAGE_EMULATOR_HOST": storage}
    if getproxies():
        settings |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
    return settings
