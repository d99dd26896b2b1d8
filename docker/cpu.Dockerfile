# mmdet on a CPU. From the root of a checkout:
#     docker build -f docker/cpu.Dockerfile -t mmdet:cpu .
#     docker run --rm -v "$PWD/data:/data" -w /data mmdet:cpu --help
FROM python:3.13-slim
ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN pip install --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY . /source
# mmengine and mmcv-lite ask for the desktop build of OpenCV, whose libraries a slim image lacks
RUN pip install '/source[hub]' \
    && pip uninstall -y opencv-python \
    && pip install --force-reinstall --no-deps opencv-python-headless \
    && rm -rf /source \
    && mmdet --version
RUN useradd --create-home mmdet
USER mmdet
ENTRYPOINT ["mmdet"]
