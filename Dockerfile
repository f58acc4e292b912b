# One image: api, worker, migrations and load tests are commands of it.
#   docker build --tag stockroom:0.1.0 .   (the chart's appVersion)
# The base can be pinned by digest (--build-arg BASE=python:3.14-slim@sha256:...), and an index of packages of your own be given as pip's configuration
# (--secret id=pip,src=pip.conf). The locks' hashes hold whatever they come from.
ARG BASE=python:3.14-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all:
RUN python -m venv --without-pip /opt/stockroom && python -m venv /opt/build
WORKDIR /source
# otel.txt instead also installs what traces need (docs/operations/logs.md), locust.txt Locust (docs/kubernetes.md).
ARG REQUIREMENTS=run.txt
COPY requirements/${REQUIREMENTS} requirements/build.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/stockroom/bin/python install --no-compile --require-hashes --requirement requirements/${REQUIREMENTS} && \
    /opt/build/bin/pip install --require-hashes --requirement requirements/build.txt
# 9 MB that nothing of ours imports: the tests of others, and bytecode of other languages' lexers, other databases and DNS.
RUN find /opt/stockroom/lib -type d \( -name tests -o -path '*/sqlalchemy/testing' -o -path '*/alembic/testing' \) -prune -exec rm -r {} + && \
    python -m compileall -q -x '/(pygments/(lexers|styles)|dialects/(mssql|mysql|oracle|sqlite)|dns)/' /opt/stockroom/lib
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY app app
RUN /opt/build/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels .

FROM ${BASE}
ARG BASE VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="Stockroom" \
      org.opencontainers.image.description="What do we sell, at what price, and how many are left?" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /opt/stockroom /opt/stockroom
# A layer of its own, some 2 MB: a change of the code sends no dependencies.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    PYTHONDONTWRITEBYTECODE=1 python -m pip --python /opt/stockroom/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl
# The root filesystem may be read-only, so everything is compiled above, and nothing looks for a home.
ENV PATH=/opt/stockroom/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 APP_ENVIRONMENT=production APP_HOST=0.0.0.0
WORKDIR /srv
# `python -m loadtests`, which is no part of the installed package.
COPY loadtests loadtests
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8000
ENTRYPOINT ["stockroom"]
CMD ["serve"]
