"""How every program of the service begins and ends. Light: it imports nothing that takes long."""

import logging
import os
import sys
from typing import NoReturn

from service.errors import BucketNotFound, CredentialsMissing, InvalidValue, OutsideFence, ServiceError, WrongSettings
from service.memory import tune_malloc
from service.settings import Settings, load_settings
from service.telemetry.logs import configure_logs, divert_native_output

DONE = 0
TRY_AGAIN = 1
WRONG_SETTINGS = 2

EXIT_STATUS: dict[type[ServiceError], int] = {
    ServiceError: TRY_AGAIN,
    # A retry changes nothing about these, yet Cloud Run knows no status that stops it from trying.
    BucketNotFound: TRY_AGAIN,
    WrongSettings: WRONG_SETTINGS,
    CredentialsMissing: WRONG_SETTINGS,
    InvalidValue: WRONG_SETTINGS,
    OutsideFence: WRONG_SETTINGS,
}
"""What an error means to Cloud Run; one that is not named here means what its base class means."""


def exit_status_of(error: ServiceError) -> int:
    """Look an error's nearest class up in `EXIT_STATUS`."""
    return next(EXIT_STATUS[kind] for kind in type(error).__mro__ if kind in EXIT_STATUS)


def begin() -> Settings:
    """Read the settings and set up the process.

    Raises:
        WrongSettings: see `load_settings`.
    """
    tune_malloc()
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format, settings.google_cloud_project)
    divert_native_output()
    return settings


def leave(status: int) -> NoReturn:
    """End the process now: a thread that hangs in a call to storage must not keep it from ending."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
