# mmdet on NVIDIA GPUs; the wheels of torch bring the CUDA libraries, the host needs the driver and the container toolkit.
#     docker build -f docker/cuda.Dockerfile -t mmdet:cuda .
#     docker run --rm --gpus all --shm-size 8g -v "$PWD/data:/data" -w /data mmdet:cuda --help
FROM python:3.13-slim
ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# torch.compile calls a C compiler
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN pip install '/source[hub]' \
    && pip uninstall -y opencv-python \
    && pip install --force-reinstall --no-deps opencv-python-headless \
    && rm -rf /source \
    && mmdet --version
RUN useradd --create-home mmdet
USER mmdet
ENTRYPOINT ["mmdet"]
