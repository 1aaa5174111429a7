"""The settings, from the environment: typed, checked all at once, handed down. Nothing else reads the environment.

The names, defaults and meanings are a promise to those who deploy the service; README.md lists them.
"""

import math
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.errors import InvalidValue, WrongSettings
from service.images.spec import Box, OutputFormat, ThumbnailSpec
from service.memory import count_processors, count_workers, decoding_budget, memory_limit
from service.naming import RUN, Hour, Layout, is_output, parse_timestamp
from service.prices import Prices
from service.storage.addresses import FolderLocation, check_bucket_name
from service.storage.classes import StorageClass
from service.storage.globs import Globs

_MAX_IN_FLIGHT = 48
"""More images in flight than this win nothing, measured with storage 40 ms away."""

MAX_TASKS = 10_000
"""Of one execution (cloud.google.com/run/quotas)."""


_CLASSES = ",".join(StorageClass)


def _parse_bucket(value: str) -> str:
    return check_bucket_name(value.removeprefix("gs://").removesuffix("/"), "OUTPUT_BUCKET")


def _parse_sizes(value: str) -> tuple[Box, ...]:
    try:
        boxes = tuple(Box.parse(size.strip()) for size in value.split(","))
    except InvalidValue as error:
        raise InvalidValue("THUMBNAIL_SIZES", value, f"has the size {error.value!r}, which {error.problem}") from None
    if len(set(boxes)) < len(boxes):
        raise InvalidValue("THUMBNAIL_SIZES", value, "names a size twice")
    return boxes


def _parse_prices(value: str) -> Prices:
    try:
        return Prices.model_validate_json(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "it"
        known = ", ".join(Prices.model_fields)
        raise InvalidValue("PRICES", value, f"is wrong: {where}: {problem['msg']} (JSON with any of {known})") from None


def _parse_classes(value: str) -> tuple[StorageClass, ...]:
    names = [name.strip().upper() for name in value.split(",")]
    for name in names:
        if name not in StorageClass.__members__:
            raise InvalidValue("STORAGE_CLASSES", value, f"has the class {name!r}; use some of {_CLASSES}")
    # In one order, however they are given.
    return tuple(each for each in StorageClass if each in names)


def _parse_output_class(value: str) -> StorageClass:
    if value.upper() not in StorageClass.__members__:
        raise InvalidValue("OUTPUT_STORAGE_CLASS", value, f"is none of {_CLASSES}")
    return StorageClass(value.upper())


def check_dollars(value: float, field: str) -> float:
    """Return a limit of dollars as given.

    Raises:
        InvalidValue: it is negative or no number.
    """
    if not (math.isfinite(value) and value >= 0):
        raise InvalidValue(field, value, "is no number of dollars such as 5 or 0.25")
    return value


def _parse_max_dollars(value: str | float) -> float:
    try:
        return check_dollars(float(value), "MAX_RUN_DOLLARS")
    except ValueError:
        raise InvalidValue("MAX_RUN_DOLLARS", value, "is no number of dollars such as 5 or 0.25") from None


def _check_emulator(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise InvalidValue("STORAGE_EMULATOR_HOST", value, "needs its scheme, such as http://127.0.0.1:4443")
    return value


def _check_metrics(value: bool) -> bool:  # noqa: FBT001 - as pydantic calls it
    if value and not _has_exporter():
        raise InvalidValue("METRICS", value, "needs the extra 'otel': uv sync --extra otel (the container has it)")
    return value


def _check_header(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise InvalidValue("CACHE_CONTROL", value, "cannot be an HTTP header: it is for printable ASCII characters")
    return value


def _has_exporter() -> bool:
    """Look for the exporter of metrics without importing it, since the port is not open yet."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


_Lower = BeforeValidator(str.lower)
_Upper = BeforeValidator(str.upper)


def _default_memory_budget() -> ByteSize:
    limit = memory_limit()
    return ByteSize(decoding_budget(limit, count_workers(limit, count_processors())))


class Settings(BaseSettings):
    """All settings; an attribute's name in capitals is the environment variable's."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, validate_default=False)

    # A validator sees the fields before its own.
    output_bucket: Annotated[str, AfterValidator(_parse_bucket)] | None = None
    input_folder: Annotated[
        FolderLocation, NoDecode, PlainValidator(partial(FolderLocation.parse, field="INPUT_FOLDER"))
    ]
    output_layout: Annotated[Layout, _Lower] = Layout.FLAT
    thumbnail_sizes: Annotated[tuple[Box, ...], NoDecode, PlainValidator(_parse_sizes)] = (Box(100, 100),)
    output_format: Annotated[OutputFormat, _Lower] = OutputFormat.ORIGINAL
    output_quality: int = Field(80, ge=1, le=100)
    animated: bool = False
    cache_control: Annotated[str, AfterValidator(_check_header)] | None = None
    timestamp: Annotated[str | Hour, NoDecode, PlainValidator(partial(parse_timestamp, field="TIMESTAMP"))] = RUN
    include: Annotated[Globs | None, NoDecode, PlainValidator(partial(Globs.parse, field="INCLUDE"))] = None
    exclude: Annotated[Globs | None, NoDecode, PlainValidator(partial(Globs.parse, field="EXCLUDE"))] = None
    storage_classes: Annotated[tuple[StorageClass, ...] | None, NoDecode, PlainValidator(_parse_classes)] = None
    output_storage_class: Annotated[StorageClass, NoDecode, PlainValidator(_parse_output_class)] = StorageClass.STANDARD
    max_run_dollars: Annotated[float | None, NoDecode, PlainValidator(_parse_max_dollars)] = None
    image_detection: Annotated[Literal["metadata", "content"], _Lower] = "metadata"
    concurrency: int = Field(default_factory=lambda: min(_MAX_IN_FLIGHT, 24 * count_processors()), ge=1, le=1000)
    max_source_bytes: ByteSize = Field(ByteSize(64 * 1024 * 1024), ge=1)
    max_image_pixels: int = Field(100_000_000, ge=1)
    damaged: Annotated[Literal["reject", "show"], _Lower] = "reject"
    max_decode_seconds: float = Field(60, gt=0, le=3600)
    memory_budget: ByteSize = Field(default_factory=_default_memory_budget, ge=1)
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], _Upper] = "INFO"
    log_format: Annotated[Literal["json", "console"], _Lower] | None = None
    metrics: Annotated[bool, AfterValidator(_check_metrics)] = False
    google_cloud_project: str | None = None
    prices: Annotated[Prices, NoDecode, PlainValidator(_parse_prices)] = Prices()
    pages: bool = True
    port: int = Field(8080, ge=1, le=65535)
    cloud_run_task_count: int = Field(1, ge=1, le=MAX_TASKS)
    cloud_run_task_index: int = Field(0, ge=0)
    cloud_run_task_attempt: int = Field(0, ge=0)
    cloud_run_execution: str | None = None
    storage_emulator_host: Annotated[str, AfterValidator(_check_emulator)] | None = None

    @field_validator("input_folder")
    @classmethod
    def _check_is_no_output(cls, folder: FolderLocation, others: ValidationInfo) -> FolderLocation:
        if is_output(folder.prefix) and others.data.get("output_bucket", "") in {None, folder.bucket}:
            problem = "is a folder that this service writes to; nothing in it is read"
            raise InvalidValue("INPUT_FOLDER", str(folder), problem)
        return folder

    @field_validator("cloud_run_task_index")
    @classmethod
    def _check_has_chunk(cls, index: int, others: ValidationInfo) -> int:
        if index >= (count := others.data.get("cloud_run_task_count", math.inf)):
            problem = f"is outside 0 … {count - 1} (CLOUD_RUN_TASK_COUNT is {count})"
            raise InvalidValue("CLOUD_RUN_TASK_INDEX", index, problem)
        return index

    @property
    def destination_bucket(self) -> str:
        """Name of the bucket for thumbnails, plans and reports."""
        return self.output_bucket or self.input_folder.bucket

    @property
    def specs(self) -> tuple[ThumbnailSpec, ...]:
        """The thumbnails to make of each image."""
        look = (self.output_format, self.output_quality, self.animated, self.damaged == "show")
        return tuple(ThumbnailSpec(box, *look) for box in self.thumbnail_sizes)

    @property
    def output_fingerprint(self) -> str:
        """The settings that shape the output, as text: a run with others is another run."""
        specs = ", ".join(map(str, self.specs)) + (" showing damaged" if self.damaged == "show" else "")
        filters = (("including", self.include), ("excluding", self.exclude))
        filtered = "".join(f" {word} {globs.text}" for word, globs in filters if globs)
        if self.storage_classes:
            filtered += f" of {','.join(self.storage_classes)}"
        return (
            f"images of {self.input_folder} by {self.image_detection}{filtered} "
            f"to gs://{self.destination_bucket} {self.output_layout}: {specs}"
        )


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        WrongSettings: with one line for each setting that is missing or wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise WrongSettings("\n".join(sorted(map(_line, error.errors())))) from None


def _line(error: ErrorDetails) -> str:
    cause = error.get("ctx", {}).get("error")
    name = str(error["loc"][0]).upper()
    if error["type"] == "missing":
        return f"{name}: required, and not set. Example: gs://my-bucket/photos"
    if isinstance(cause, InvalidValue):
        return f"{name}: {error['input']!r} {cause.problem}"
    if error["type"].startswith("byte_size"):
        return f"{name}: {error['input']!r} is no size such as 300MiB"
    return f"{name}: {error['input']!r}: {error['msg']}"
