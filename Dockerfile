# syntax=docker/dockerfile:1.7
# The worker's image for x86_64 machines with an NVIDIA GPU (CUDA 11.8: driver 450.80 or later).

# PyTorch's own index alone has the wheels for CUDA 11.8. They count as newer than the plain ones of
# the same number, so pip takes them. They pin their CUDA libraries, requirements.lock all others.
FROM condaforge/miniforge3:24.9.2-0 AS environment
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cu118 \
    PIP_CONSTRAINT=/tmp/requirements.lock \
    PIP_NO_CACHE_DIR=1
COPY --chmod=644 environment.yml requirements.lock /tmp/
# Jobs install and compile nothing: pip and the C++ headers are removed.
RUN conda env create --prefix /opt/worker --file /tmp/environment.yml \
    && /opt/worker/bin/python -c 'import torch, torchvision; assert torch.version.cuda == "11.8", torch.version.cuda' \
    && /opt/worker/bin/python -m pip uninstall --quiet --yes pip setuptools wheel \
    && rm -r /opt/worker/lib/python3.11/site-packages/torch/include

FROM debian:12.11-slim AS checkpoint
ADD --checksum=sha256:a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e --chmod=644 \
    https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth /sam_vit_h_4b8939.pth
RUN test "$(stat --format=%s /sam_vit_h_4b8939.pth)" -eq 2564550879

FROM debian:12.11-slim
# The keys are the server's, in its spelling.
# hadolint ignore=DL3048
LABEL isUPennContrastWorker="true" \
      isAnnotationWorker="true" \
      isGPUWorker="true" \
      annotationShape="polygon" \
      interfaceName="SAM few-shot segmentation" \
      interfaceCategory="SAM" \
      description="Finds objects like your tagged examples" \
      defaultToolName="SAM few-shot segmentation" \
      org.opencontainers.image.title="SAM few-shot segmentation worker" \
      org.opencontainers.image.licenses="Apache-2.0" \
      com.nvidia.volumes.needed="nvidia_driver"
# The label com.nvidia.volumes.needed makes girder_worker hand the GPU to the container; what NVIDIA's container
# runtime brings into it is said by the NVIDIA_ variables.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
RUN useradd --create-home --uid 1000 worker
COPY --from=environment --chmod=755 /opt/worker /opt/worker
COPY --from=checkpoint --chmod=644 /sam_vit_h_4b8939.pth /sam_vit_h_4b8939.pth
# Readable by every user, whatever the rights in the checkout.
COPY --chmod=755 fewshot /fewshot
COPY --chmod=755 annotation_client /annotation_client
COPY --chmod=755 entrypoint.py /entrypoint.py
# Checked here, so that no job spends seconds on it: the worker's user may not write beside the file.
RUN /opt/worker/bin/python -c 'from fewshot.sam import checkpoints; \
    checkpoints.check_file(checkpoints.VIT_H, "/sam_vit_h_4b8939.pth")'
USER 1000
# Every library loads on this base, and the entry command answers.
RUN /opt/worker/bin/python -c 'import cv2, girder_client, segment_anything, setproctitle, shapely, skimage' \
    && /opt/worker/bin/python /entrypoint.py --help
ENTRYPOINT ["/opt/worker/bin/python", "/entrypoint.py"]
