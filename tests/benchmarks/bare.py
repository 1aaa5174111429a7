"""The least that FastAPI on uvicorn does: what the start of the service is compared with."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer at once."""
    return {"status": "ok"}


@app.post("/events")
async def events(resource: dict[str, object]) -> dict[str, str]:
    """Answer at once."""
    return {"outcome": "ignored", "reason": f"{len(resource)} fields"}
