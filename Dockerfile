# All programs as one image, whose command is r2d2. It has never been built: where this was written there is no Docker.
#
#   docker build --tag r2d2 .                                 # for a CPU
#   docker build --tag r2d2:gpu --build-arg DEVICE=gpu .      # for NVIDIA's GPUs, on Linux x86-64
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" r2d2 train --dataset=folder --data_dir=PHOTOS

FROM python:3.13-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels .

FROM python:3.13-slim
ARG DEVICE=cpu
COPY requirements.txt /tmp/
# The pins that the tests saw, by their hashes; for a GPU another wheel of the same TensorFlow, which has none here.
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt \
    && if [ "$DEVICE" = gpu ]; then \
        pip uninstall --yes tensorflow-cpu \
        && pip install --no-cache-dir "tensorflow[and-cuda]==$(sed -n 's/^tensorflow-cpu==\([0-9.]*\).*/\1/p' /tmp/requirements.txt)"; \
    fi \
    && rm /tmp/requirements.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl

# Any user may run it: what libraries keep for later goes where all may write.
ENV HOME=/tmp
WORKDIR /work
EXPOSE 8500 8501
USER nobody
ENTRYPOINT ["r2d2"]
CMD ["--help"]
