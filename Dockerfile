# The embedded engine as a server, with its data in /data; docs/how-to/server.md shows how to run it.
FROM python:3.13-slim@sha256:ffb752e139c0a19692a43af8d8523b274222dd68eebad5d583b45c2201c6e30a AS build

WORKDIR /source
COPY LICENSE README.md pyproject.toml ./
COPY helicone_sessions helicone_sessions
RUN python -m venv /opt/helicone-sessions \
    && /opt/helicone-sessions/bin/python -m pip install --no-cache-dir ".[local,cli]"

FROM python:3.13-slim@sha256:ffb752e139c0a19692a43af8d8523b274222dd68eebad5d583b45c2201c6e30a

RUN useradd --system --uid 10001 --no-create-home helicone \
    && install --directory --owner=10001 --mode=0700 /data
COPY --from=build /opt/helicone-sessions /opt/helicone-sessions
ENV PATH="/opt/helicone-sessions/bin:$PATH" PYTHONUNBUFFERED=1

USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8585
# A large load at the start takes minutes; until it is done, nothing listens.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8585/healthcheck', timeout=4)"]
ENTRYPOINT ["helicone-sessions", "serve", "--host", "0.0.0.0", "--path", "/data"]
