# Two stages: one builds the environment from the checkout, the other only runs it. The container
# needs no root, no capability, and no writable files except those of the volume and /tmp.
FROM python:3.13-slim@sha256:70729b46c69b4f1e97c4822c1af3df53a1476cf5ddc6c087c0c10bc3a5678c2f AS build
WORKDIR /app
COPY requirements.lock ./
# The final environment has no pip.
RUN python -m venv /pip \
    && python -m venv --without-pip /app/.venv \
    && /pip/bin/pip --python /app/.venv/bin/python install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.13-slim@sha256:70729b46c69b4f1e97c4822c1af3df53a1476cf5ddc6c087c0c10bc3a5678c2f
LABEL org.opencontainers.image.title="taskapp" \
      org.opencontainers.image.description="A task tracker that a person can host with one command" \
      org.opencontainers.image.licenses="MIT"
# A fixed id, so that the files of a volume keep their owner when the image is rebuilt.
RUN groupadd --system --gid 10001 taskapp \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/taskapp taskapp \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/taskapp /var/lib/taskapp/backups
# PostgreSQL's initdb wants a name for its user: every number that `user:` may give has one (ADR 0036).
RUN python -c "print(*(f'user{n}:x:{n}:{n}::/var/lib/taskapp:/usr/sbin/nologin' for n in range(1, 65536)), sep='\n')" >> /etc/passwd
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
# Bytecode, which cannot be written later to a read-only file system.
RUN python -m compileall -q schema taskapp handlers server.py
USER 10001:10001
VOLUME /var/lib/taskapp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=15s --start-period=20s \
    CMD ["python", "server.py", "health"]
CMD ["python", "server.py"]
