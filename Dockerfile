# The build of cloudbuild.yaml puts the digest of one image behind this tag: `_PYTHON`, beside the command that renews it.
# A build on your own machine takes what the tag stands for that day.
FROM python:3.13-slim AS builder

# The system's certificates: a build may have to go through a proxy that has its own.
# Bytecode is not checked against its source: nothing edits the source of an image, and builders that round the times of
# copied files would make all of it look stale, which costs as much as having none.
ENV UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    UV_SYSTEM_CERTS=1 \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH

WORKDIR /app
RUN pip install --no-cache-dir --root-user-action=ignore uv

COPY pyproject.toml uv.lock ./
# The extra `heif` has libraries under the GPL and LGPL: .readme/pictures.md says what follows if you give the image away.
RUN uv sync --locked --no-default-groups --no-install-project --extra heif --extra otel --compile-bytecode

COPY service service
RUN python -m compileall -q --invalidation-mode unchecked-hash service


# The builder's image again: its environment refers to the interpreter by its path.
FROM python:3.13-slim

WORKDIR /app
ENV PATH="/app/.venv/bin:$PATH"

COPY --from=builder /app/.venv .venv
COPY --from=builder /app/service service

# The Python images come without the standard library's bytecode, and the user below may not write any. Importing the
# programs, and what pages are made with, leaves that of the modules they need; without it a start takes twice as long.
RUN ["python", "-c", "import service.__main__, service.web.app, service.job, service.web.rendering, service.images.worker"]

# The licences are the service's own and those of the HEIC libraries; the base image has others.
# The revision is the commit, if the builder is told. It comes late, so that a new commit alone makes no other layer anew.
ARG REVISION=""
LABEL org.opencontainers.image.title="Thumbnails for Cloud Storage" \
      org.opencontainers.image.description="Thumbnails for every image in a Cloud Storage folder: as they arrive, and all that are there already." \
      org.opencontainers.image.licenses="MIT AND LGPL-3.0-only AND GPL-2.0-only" \
      org.opencontainers.image.revision="${REVISION}"

# A number, by which a platform can tell that this is not root. It owns no file: the code cannot be changed from inside,
# and the root file system may be read-only.
USER 65532:65532

# Exec form: Python is process 1 and gets the platform's SIGTERM. The job is `python -m service.job`.
CMD ["python", "-m", "service"]
