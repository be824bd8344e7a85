# What the other files of this folder share (ids, paths, and how much a job asks for).


wildcard_constraints:
    pair="[a-z0-9_]+",
    recipe="[a-z0-9_]+",
    alignment="[a-z]+",
    seed="[0-9]+",
    model="[a-z0-9_]+",
    benchmark="[a-z0-9_]+",
    training_set="[a-z0-9_]+",


# Minutes that a job may take; profiles override them with set-resources. Training goes on from its last checkpoint.
TRAIN_MINUTES = 1440 if config["gpus_per_job"] else 480
ANSWER_MINUTES = 240


def one_of(ids):
    """A wildcard constraint for exactly these ids; for none, one that nothing matches."""
    return "|".join(ids) or "(?!)"


def fuser_runs(pair=None, recipe=None):
    """Paths of the fusers of this scale below fusers/ and records/, of one pair or recipe where given."""
    return [run.path for run in settings.runs if pair in (None, run.pair) and recipe in (None, run.recipe)]


def all_records(wildcards):
    """Every file of records of this scale."""
    baselines = collect("<results>/records/{pair}/baselines.parquet", pair=settings.used_pairs)
    return [*baselines, *collect("<results>/records/{run}.parquet", run=fuser_runs())]


def questions_of(task):
    """The prepared questions of a task; those of one benchmark are the same under every scoring."""
    return f"<results>/data/benchmarks/{settings.data.benchmark_of[task]}.jsonl"


def benchmark_files(wildcards):
    """The prepared questions of every task of this scale, in the config's order."""
    return [questions_of(task) for task in config["benchmarks"]]


def prepared_benchmarks(wildcards):
    """The prepared questions of this scale, each file once."""
    return list(dict.fromkeys(benchmark_files(wildcards)))


def task_files(wildcards):
    """The prompts of every task of this scale, with the files that they include, each once."""
    files = [path for task in config["benchmarks"] for path in settings.data.task_files(task)]
    return list(dict.fromkeys(files))


def benchmark_flags(wildcards, input):
    """The prepared questions as the command line takes them: ID=FILE."""
    named = zip(config["benchmarks"], input.questions, strict=True)
    return " ".join(f"{task}={path}" for task, path in named)


def receiver_manifest(wildcards):
    """The manifest of a pair's Receiver."""
    return f"<results>/models/{settings.pairs[wildcards.pair]['receiver']}.json"


def sharer_manifest(wildcards):
    """The manifest of a pair's Sharer."""
    return f"<results>/models/{settings.pairs[wildcards.pair]['sharer']}.json"


def recipe_of(wildcards):
    """The row of config/recipes.tsv."""
    return settings.recipes[wildcards.recipe]


def answering_memory(wildcards):
    """Memory of a job that runs both models, in MB."""
    return settings.memory_mb(wildcards.pair)


def training_memory(wildcards):
    """Memory of a job that trains a fuser, in MB."""
    return settings.memory_mb(wildcards.pair, training=True)


def fuser_folders(wildcards, input):
    """The folders of the fusers whose files are the input."""
    return " ".join(os.path.dirname(path) for path in input)


def config_files():
    """The config files of this run, relative to the root, in the order in which they override each other."""
    given = workflow.overwrite_configfiles or ["config/config.yaml"]
    return " ".join(os.path.relpath(path) for path in given)


def paper_sources():
    """The text of the paper, and what it takes names and published values from."""
    folder = Path("paper")
    sources = [*folder.glob("*.typ"), *folder.glob("text/*.typ"), *folder.glob("*.yaml"), folder / "deviations.md"]
    return sorted(str(path) for path in [*sources, folder / "reference_values.csv"])


def report_captions():
    """The texts of the report."""
    return sorted(str(path) for path in Path("workflow/report").glob("*.rst"))


def cost_statement():
    """What this run may cost at most, printed before it starts."""
    fusers, pairs, gpus = (
        len(settings.runs),
        len(settings.used_pairs),
        config["gpus_per_job"],
    )
    hours = gpus * (fusers * (TRAIN_MINUTES + ANSWER_MINUTES) + 2 * pairs * ANSWER_MINUTES) / 60
    cost = f"jobs may hold GPUs for at most {hours:.0f} GPU hours" if gpus else "no GPU is asked for"
    return f"Scale {config['scale']}: {fusers} fusers of {pairs} pairs; {cost} (retries aside, finished jobs are kept)."
