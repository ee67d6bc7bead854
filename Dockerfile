# The tree as it is, in two stages: one that builds the environment, and one that only runs it.
FROM python:3.13-slim AS build
WORKDIR /app
COPY requirements.lock ./
RUN python -m venv /app/.venv \
    && /app/.venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.13-slim
RUN useradd --system --create-home --home-dir /var/lib/taskapp taskapp
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
USER taskapp
VOLUME /var/lib/taskapp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=6s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/api/health', timeout=5)"]
CMD ["python", "server.py"]
