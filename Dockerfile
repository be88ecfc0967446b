# Target `service`: one image for every service. Target `generate-gpu`: the same with vLLM.
# Non-root, and nothing is written outside /data and /tmp.
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/penstock
COPY deploy/requirements.lock /tmp/requirements.lock
RUN /opt/penstock/bin/pip install --quiet --require-hashes -r /tmp/requirements.lock \
 && find /opt/penstock -name __pycache__ -prune -exec rm -rf {} + \
 && /opt/penstock/bin/python -m pip uninstall --quiet --yes pip
WORKDIR /app
COPY contracts contracts
COPY shared shared
COPY services services
COPY client client

FROM python:3.11.13-slim-bookworm AS service
RUN useradd --uid 10001 --user-group --no-create-home penstock && install -d -o penstock -g penstock /data
ENV PATH=/opt/penstock/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PENSTOCK_DATA=/data PENSTOCK_READY_FILE=/tmp/penstock-ready HOME=/tmp
COPY --from=build /opt/penstock /opt/penstock
COPY --from=build /app /app
WORKDIR /app
USER 10001
# Ready means: connected, streams and consumers there, pulling. The service writes the file anew every few seconds.
HEALTHCHECK --interval=3s --timeout=2s --start-period=5m --retries=5 \
  CMD test -n "$(find /tmp/penstock-ready -newermt '-15 seconds' 2>/dev/null)"
ENTRYPOINT ["python", "-m"]

# vLLM brings its own torch; on a machine with NVIDIA's container toolkit.
FROM service AS generate-gpu
USER root
RUN python -m ensurepip && python -m pip install --no-cache-dir "vllm>=0.32,<0.33"
USER 10001
CMD ["services.generate_gpu.app"]
