# docker build -t pfedmoap .
# docker run --rm --network none pfedmoap run --profile smoke
# docker run --rm --network none -v "$PWD/again:/home/kit/pfedmoap/again" pfedmoap reproduce --results again --figures again
FROM python:3.11-slim-bookworm

RUN useradd --uid 1000 --create-home --shell /bin/bash kit
USER 1000
WORKDIR /home/kit/pfedmoap
ENV PATH=/home/kit/.venv/bin:$PATH OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# The packages first: a change of the code does not download them again.
COPY --chown=1000 requirements/locked.txt requirements/locked.txt
RUN python -m venv /home/kit/.venv && pip install --no-cache-dir --require-hashes -r requirements/locked.txt

COPY --chown=1000 . .
RUN pip install --no-cache-dir --no-deps -e .

ENTRYPOINT ["pfedmoap"]
CMD ["--help"]
