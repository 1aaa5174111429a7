"""`GET /thumbnails`: from an image to its thumbnails, and from a thumbnail to its image."""

from typing import Annotated, Self

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, WithJsonSchema

from service.bootstrap import Service
from service.errors import InvalidValue, OutsideFence
from service.lookup import describe_thumbnail, find_in_all_hours
from service.naming import DAMAGED, DAMAGED_KEY, GENERATION_KEY, SIZE_KEY, SOURCE_KEY, SPEC_KEY
from service.storage.addresses import OBJECT_PATTERN, ObjectLocation
from service.storage.base import FoundObjects, StoredObject
from service.web.answers import UNAVAILABLE, ErrorAnswer
from service.web.pages import VARY, Pages, prefers_page
from service.web.storage_threads import StorageThreads

# For the description of the API alone; `ObjectLocation.parse` checks it, and says more.
_ObjectAddress = Annotated[str, WithJsonSchema({"type": "string", "pattern": OBJECT_PATTERN})]


class FoundThumbnail(BaseModel):
    """A thumbnail, and what its metadata says."""

    thumbnail: str
    timestamp: str = Field(description="The hour folder.")
    generation: str | None = Field(None, description="The generation of the source that it was made of.")
    spec: str | None = Field(None, description="The settings that shaped it.")
    size: str | None = Field(None, description="Its pixels, such as `100x75`.")
    damaged: bool | None = Field(None, description="True if the source's file ends too early: it shows what is there.")

    @classmethod
    def of(cls, stored: StoredObject) -> Self:
        """Read a thumbnail's metadata."""
        return cls(
            thumbnail=str(stored.location),
            timestamp=stored.location.name.partition("/")[0],
            generation=stored.metadata.get(GENERATION_KEY),
            spec=stored.metadata.get(SPEC_KEY),
            size=stored.metadata.get(SIZE_KEY),
            damaged=stored.metadata.get(DAMAGED_KEY) == DAMAGED or None,
        )


class ThumbnailList(BaseModel):
    """An image and its thumbnails."""

    source: str
    thumbnails: list[FoundThumbnail] = Field(description="Newest hour first.")
    complete: bool = Field(description="False if so many objects have such names that the search was cut off.")


def add_thumbnail_route(app: FastAPI, service: Service, pages: Pages | None, threads: StorageThreads) -> None:
    """Serve `GET /thumbnails`, as JSON and to people as a page."""
    store, bucket, fence = service.store, service.settings.destination_bucket, service.settings.input_folder
    vary = VARY if pages else {}

    @app.head("/thumbnails", include_in_schema=False, response_model=ThumbnailList)
    @app.get(
        "/thumbnails",
        response_model=ThumbnailList,
        response_model_exclude_none=True,
        responses={
            403: {"model": ErrorAnswer, "description": "The source is outside INPUT_FOLDER."},
            404: {"model": ErrorAnswer, "description": "No such thumbnail."},
            422: {"model": ErrorAnswer, "description": "Neither parameter, or both, or no `gs://` address."},
            **UNAVAILABLE,
        },
    )
    @threads.wrap
    def thumbnails(
        request: Request,
        response: Response,
        source: Annotated[
            _ObjectAddress | None, Query(description="An image, `gs://bucket/name`: where are its thumbnails?")
        ] = None,
        thumbnail: Annotated[
            _ObjectAddress | None,
            Query(description="In its place a thumbnail, `gs://bucket/name`: what image was it made of?"),
        ] = None,
    ) -> ThumbnailList | Response:
        """Return the thumbnails of an image in all hours, or one thumbnail with the image that it was made of."""
        if thumbnail is not None:
            if source is not None:
                raise InvalidValue("thumbnail", thumbnail, "is given beside 'source'; give one of them")
            stored = describe_thumbnail(store, bucket, ObjectLocation.parse(thumbnail, "thumbnail"))
            image, found = stored.metadata[SOURCE_KEY], FoundObjects((stored,), complete=True)
        else:
            if source is None:
                raise InvalidValue("source", "", "is missing: give an image, or the parameter 'thumbnail' instead")
            location = ObjectLocation.parse(source, "source")
            if location not in fence:
                raise OutsideFence("source", str(location), f"is not inside INPUT_FOLDER, which is {fence}")
            image, found = str(location), find_in_all_hours(store, service.thumbnailer.outputs, location)
        if pages and prefers_page(request):
            return pages.thumbnails(image, found)
        response.headers.update(vary)
        return ThumbnailList(
            source=image, thumbnails=list(map(FoundThumbnail.of, found.objects)), complete=found.complete
        )
