"""Command line of the demo."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status.

    Args:
        argv: instead of the process's own arguments.
    """
    arguments = _parser().parse_args(argv)
    if os.name == "nt":
        sys.stderr.write("demo: its storage emulator runs on Linux and macOS. On Windows, use WSL.\n")
        return 1
    with _signals_exit():
        try:
            # Not at the top: it imports packages that an installation without the demo lacks.
            from service.demo.tour import show
        except ModuleNotFoundError as error:
            sys.stderr.write(f"demo: {error}. 'uv run demo' installs what the demo needs.\n")
            return 1
        return show(arguments.folder, arguments.output, keep=arguments.keep)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="demo",
        description="See the thumbnail service at work on this machine, without a Google Cloud account: it uploads "
        "images to an emulated bucket, has the real service make thumbnails of those that are there already and of "
        "those that arrive, and writes a contact sheet.",
        epilog="With gcloud, its pubsub-emulator component and Java, Google's Pub/Sub emulator delivers the events.",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="your own images; without it, sample photos. Nothing in it is changed",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep everything running until Ctrl-C, and print the address of the contact sheet and a command for each "
        "door of the service",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        type=Path,
        default=Path("demo-output"),
        help="folder for the contact sheet, which is written without --keep (default: %(default)s)",
    )
    return parser


@contextmanager
def _signals_exit() -> Iterator[None]:
    """Turn a signal into an orderly exit with its usual status, 128 and its number, that ends all local processes.

    Further signals are ignored from then on, lest one cuts that end short.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave(number: int, _: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        sys.stderr.write("\nEnding what was started ...\n")
        raise SystemExit(128 + number)

    # Under nohup the end of the terminal is no reason to end.
    heeded = [number for number in signals if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
