# The environment of requirements.lock with the repository, for jobs in a container or a try without an installation:
#   docker build -t cache-to-cache . && docker run --rm -v "$PWD/results:/opt/c2c/results" cache-to-cache snakemake --profile smoke
# container.def is the same for Apptainer.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/c2c
ENV PIP_NO_CACHE_DIR=1 PYTHONNOUSERSITE=1

# Packages change less often than code.
COPY requirements.lock ./
RUN python -m pip install -r requirements.lock

COPY pyproject.toml README.md LICENSE CITATION.cff Makefile Snakefile environment.yml mkdocs.yml ./
COPY benchmarks ./benchmarks
COPY c2c ./c2c
COPY config ./config
COPY docs ./docs
COPY paper ./paper
COPY tests ./tests
COPY workflow ./workflow
RUN for profile in gpu laptop slurm smoke; do ln -s "workflow/profiles/$profile" "$profile"; done \
    && python -m pip install --no-deps --no-build-isolation --editable .

CMD ["c2c", "--help"]
