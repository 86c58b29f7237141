# syntax=docker/dockerfile:1
FROM python:3.13-alpine AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/cotexd
# The libraries change less often than our own code: a layer of their own.
COPY requirements.lock ./
RUN /opt/cotexd/bin/pip install --require-hashes -r requirements.lock
COPY . .
RUN /opt/cotexd/bin/pip install --no-deps .

FROM python:3.13-alpine
RUN addgroup -S -g 10001 cotex && adduser -S -D -H -u 10001 -G cotex cotex \
  && install -d -m 700 -o cotex -g cotex /var/lib/cotex
COPY --from=build /opt/cotexd /opt/cotexd
ENV PATH=/opt/cotexd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    COTEX_DATA_DIR=/var/lib/cotex \
    COTEX_HOST=0.0.0.0 \
    COTEX_LOG_FORMAT=json
USER cotex
# The only place that it writes to: the rest may be mounted read-only.
VOLUME /var/lib/cotex
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD wget -q -O /dev/null "http://127.0.0.1:${COTEX_PORT:-${PORT:-8080}}/readyz" || exit 1
ENTRYPOINT ["cotexd"]
