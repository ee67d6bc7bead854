# The tree as it is, in two stages: one that builds the environment, and one that only runs it.
# It needs no root, no capability, and no writable file but those of the volume and /tmp.
FROM python:3.13-slim AS build
WORKDIR /app
COPY requirements.lock ./
# The environment that is kept has no pip, which nothing needs later.
RUN python -m venv /pip \
    && python -m venv --without-pip /app/.venv \
    && /pip/bin/pip --python /app/.venv/bin/python install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.13-slim
LABEL org.opencontainers.image.title="taskapp" \
      org.opencontainers.image.description="A task tracker that a person can host with one command" \
      org.opencontainers.image.licenses="MIT"
# A fixed number: the files of a volume belong to it, also after the image was built anew.
RUN groupadd --system --gid 10001 taskapp \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/taskapp taskapp \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/taskapp /var/lib/taskapp/backups
WORKDIR /app
COPY --from=build /app/.venv ./.venv
COPY pyproject.toml server.py ./
COPY schema ./schema
COPY taskapp ./taskapp
COPY handlers ./handlers
COPY templates ./templates
COPY static ./static
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    TASKAPP_HOST=0.0.0.0 \
    TASKAPP_DATA_DIR=/var/lib/taskapp/data
# What could not be written later, to a file system that is read-only.
RUN python -m compileall -q schema taskapp handlers server.py
USER 10001:10001
VOLUME /var/lib/taskapp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=6s --start-period=20s \
    CMD ["python", "-c", "import os; from urllib.request import urlopen; urlopen('http://127.0.0.1:' + os.environ.get('TASKAPP_PORT', '8000') + os.environ.get('TASKAPP_BASE_PATH', '').rstrip('/') + '/api/health', timeout=5)"]
CMD ["python", "server.py"]
