# The web server of tsdsr: a page and an HTTP interface. See docs/how-to/http-service.md.
#
#   docker build -t tsdsr .                          CPU, ONNX Runtime
#   docker build -t tsdsr:cuda --target cuda .       NVIDIA GPUs, PyTorch; run it with --gpus all
#   docker run --rm -p 127.0.0.1:8787:8787 -e TSDSR_TOKEN=... tsdsr

ARG PYTHON=docker.io/library/python:3.13-slim

# Installs into a virtual environment. The dependencies come first: a change of the code does not install them again.
FROM ${PYTHON} AS builder
WORKDIR /source
RUN python3 -m venv /opt/tsdsr
COPY pyproject.toml README.md LICENSE ./
RUN mkdir -p src/tsdsr && printf '__version__ = "0"\n' > src/tsdsr/__init__.py \
    && /opt/tsdsr/bin/pip install --no-cache-dir '.[serve,heif,hub]'
COPY src src
RUN /opt/tsdsr/bin/pip install --no-cache-dir --no-deps --force-reinstall . \
    && /opt/tsdsr/bin/tsdsr --version

FROM builder AS cuda-builder
# PyTorch's wheels for Linux bring CUDA; the host needs the driver and the NVIDIA container toolkit only.
RUN /opt/tsdsr/bin/pip install --no-cache-dir '.[serve,heif,hub,torch]'

# What both images have in common.
FROM ${PYTHON} AS runtime
RUN useradd --uid 10001 --user-group --create-home tsdsr
ENV PATH=/opt/tsdsr/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/home/tsdsr/models \
    TSDSR_CACHE=/home/tsdsr/models
USER 10001:10001
WORKDIR /home/tsdsr
# A volume that is mounted here takes over its owner.
RUN mkdir models
EXPOSE 8787
# The name is the address that the server listens at, which it always knows, whatever --allow-host says.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://0.0.0.0:8787/healthz', timeout=4)"]
ENTRYPOINT ["tsdsr", "serve", "--host", "0.0.0.0"]

FROM runtime AS cuda
COPY --from=cuda-builder /opt/tsdsr /opt/tsdsr

FROM runtime AS cpu
COPY --from=builder /opt/tsdsr /opt/tsdsr
