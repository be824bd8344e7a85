# What the other files of this folder share (ids, paths, and how much a job asks for).

from paper.artefacts import (
    CURVES,
    LATENCY,
    RECORDS,
    RELEASED,
    TESTBED,
    by_target,
    claim_files,
    of_kind,
    of_testbed,
    read_artefacts,
)


wildcard_constraints:
    pair="|".join(settings.pairs),
    recipe="|".join(settings.recipes),
    alignment="[a-z]+",
    seed="[0-9]+",
    step="[0-9]+",
    model="[a-z0-9_]+",
    benchmark="[a-z0-9_]+",
    training_set="[a-z0-9_]+",
    tokens="[a-z0-9_]+([.]receiver)?",
    part="train|validation",
    length="[0-9]+",
    layers="terminal|nearest",
    table="|".join(of_kind("table")),
    figure="|".join(of_kind("figure")),


ANSWERS = {job.path.removeprefix("records/"): job for job in answer_jobs(settings)}
BED_JOBS = {job.path: job for job in bed_jobs(settings)}
ROUTER_ANSWERS = {job.pairs[0]: job for job in router_answers(settings)}

# Minutes that a job may take; on a cluster config/resources.tsv says so instead. Training resumes from its last checkpoint.
TRAIN_MINUTES = 1440 if config["gpus_per_job"] else 480
ANSWER_MINUTES = 240


def one_of(ids):
    """A wildcard constraint for exactly these ids; for none, one that nothing matches."""
    return "|".join(ids) or "(?!)"


def fuser_runs(pair=None, recipe=None, aside=True):
    """Paths of the fusers of this scale below fusers/ and records/, of one pair or recipe where given."""
    runs = settings.runs if aside else settings.main_runs
    return [run.path for run in runs if pair in (None, run.pair) and recipe in (None, run.recipe)]


def all_records(wildcards):
    """Every file of records of this scale."""
    return [f"<results>/records/{answers}.parquet" for answers in ANSWERS]


def released_records(wildcards):
    """Records of the released Fusers of this scale, and of their models alone."""
    pairs = dict.fromkeys(settings.released[name]["pair"] for name in config["released"])
    names = [*(f"{pair}/baselines" for pair in pairs), *(f"released/{name}" for name in config["released"])]
    return [f"<results>/records/{name}.parquet" for name in names]


def questions_of(task):
    """The prepared questions of a task; those of one benchmark are the same under every scoring."""
    return f"<results>/data/benchmarks/{settings.data.benchmark_of[task]}.jsonl"


def prepared_benchmarks(wildcards):
    """The prepared questions of this scale, each file once."""
    return list(dict.fromkeys(questions_of(task) for task in config["benchmarks"]))


def job_of(wildcards):
    """What a job of `c2c generate` consists of (workflow/kinds/jobs.py)."""
    return ANSWERS[wildcards.answers] if "answers" in wildcards.keys() else ROUTER_ANSWERS[wildcards.pair]


def files_of_job(wildcards):
    """The files that a job of `c2c generate` reads, by name of the input."""
    job = job_of(wildcards)
    files = {name: [f"<results>/{path}" for path in paths] for name, paths in job.inputs.items()}
    tasks = [path for task in job.tasks for path in settings.data.task_files(task)]
    return {**files, "tasks": list(dict.fromkeys(tasks))}


def fuser_flags(wildcards, output):
    """The Fusers and the router of a job as flags, where it has any."""
    job = job_of(wildcards)
    results = output.records.removesuffix(f"{job.path}.parquet")
    places = {"--fuser": job.fusers, "--router": [job.router] if job.router else []}
    return [word for flag, paths in places.items() if paths for word in (flag, *(f"{results}{p}" for p in paths))]


def question_flags(wildcards, input):
    """The prepared questions of a job as the command line takes them: ID=FILE."""
    return [f"{task}={path}" for task, path in zip(job_of(wildcards).tasks, input.questions, strict=True)]


def asked_tasks():
    """Tasks and kinds of prompts in which the records of this scale have answers, each pair once."""
    return list(dict.fromkeys((task, settings.prompts(job.pairs[0])) for job in ANSWERS.values() for task in job.tasks))


def asked_task_files(wildcards):
    """The task files of `asked_tasks`, each once."""
    return list(dict.fromkeys(path for task, _ in asked_tasks() for path in settings.data.task_files(task)))


def asked_flags(prompts):
    """The tasks that are asked in one kind of prompts, as flags: ID=FILE."""
    return lambda wildcards, input: [
        f"{task}={path}"
        for (task, kind), path in zip(asked_tasks(), listed(input.questions), strict=True)
        if kind == prompts
    ]


def job_memory(wildcards, attempt):
    """Memory of a job of `c2c generate`, in MB; more at each further attempt."""
    return grown(job_of(wildcards).memory_mb(settings), attempt)


def receiver_manifest(wildcards):
    """The manifest of a pair's Receiver."""
    return f"<results>/models/{settings.pairs[wildcards.pair]['receiver']}.json"


def sharer_manifest(wildcards):
    """The manifest of a pair's Sharer."""
    return f"<results>/models/{settings.pairs[wildcards.pair]['sharer']}.json"


def sharer_of_recipe(wildcards):
    """The manifest of the Sharer of a recipe: the pair's, or its Receiver's (recipe identical)."""
    return f"<results>/models/{settings.pairs[wildcards.pair][settings.sharer_role(wildcards.recipe)]}.json"


def pair_of_tokens(wildcards):
    """The row of config/pairs.tsv that a tokenised training set is of."""
    return settings.pairs[wildcards.tokens.removesuffix(OWN_TOKENS)]


def sharer_of_tokens(wildcards):
    """The manifest of the model that reads a tokenised training set as the Sharer."""
    role = "receiver" if wildcards.tokens.endswith(OWN_TOKENS) else "sharer"
    return f"<results>/models/{pair_of_tokens(wildcards)[role]}.json"


def training_lines(part):
    """The lines, train or validation, of the training set of a pair."""
    return lambda wildcards: f"<results>/data/training/{pair_of_tokens(wildcards)['training_set']}/{part}.jsonl"


def tokenised_for(wildcards, recipe, part):
    """The tokenised set, train or validation, that a recipe of a pair is trained on."""
    return f"<results>/data/tokenised/{settings.tokenised(wildcards.pair, recipe, wildcards.alignment)}/{part}.parquet"


def tokenised_set(part):
    """The tokenised set, train or validation, of a fuser."""
    return lambda wildcards: tokenised_for(wildcards, wildcards.recipe, part)


def states_of_run(wildcards):
    """The index of the stored states that a fuser is trained on, or nothing."""
    folder = settings.states(wildcards.pair, wildcards.recipe, wildcards.alignment)
    return [f"<results>/states/{folder}/index.parquet"] if folder else []


def states_flag(wildcards, input):
    """The folder of stored states as a flag, where the training has any."""
    return ["--states", os.path.dirname(input.states[0])] if input.states else []


def training_flags(pair, recipe, alignment):
    """Settings of a fuser and its training as flags."""
    return flags({**settings.training_of(pair, recipe, alignment), **settings.processes})


def trained_together(wildcards):
    """The trainings of a job that trains several fusers."""
    return settings.trained_together[f"{wildcards.tokens}/{wildcards.alignment}/{wildcards.length}"]


def together_folder(path):
    """The folder, below together/, of the job that trains a fuser."""
    folders = settings.trained_together.items()
    return next(folder for folder, runs in folders if path in [run.path for run in runs])


def run_flags(wildcards, output):
    """Trainings of one job as c2c train-together takes them: an object each, with its own settings and outputs."""
    words = []
    for run in trained_together(wildcards):
        row = settings.recipes[run.recipe]
        folder = f"{output.folder}/{run.recipe}/seed{run.seed}"
        places = {"recipe": run.recipe, "seed": run.seed, "output": folder, "kept": f"{folder}.steps"}
        own = {"variant": row["variant"], "sharer_cache": row["sharer_cache"]}
        words.append(json.dumps({**places, **own, **settings.training_of(run.pair, run.recipe, run.alignment)}))
    return words


def recipe_of(wildcards):
    """The row of config/recipes.tsv."""
    return settings.recipes[wildcards.recipe]


def prompts_of(wildcards):
    """Whether a pair is asked in plain text or in chats."""
    return settings.pairs[wildcards.pair]["prompts"]


def answering_memory(wildcards, attempt):
    """Memory of a job that runs both models, in MB; more at each further attempt."""
    return grown(settings.answering_mb(wildcards.pair), attempt)


def training_memory(wildcards, attempt):
    """Memory of a job that trains a fuser, in MB; more at each further attempt."""
    return grown(settings.training_mb(wildcards.pair, wildcards.recipe, wildcards.alignment), attempt)


def storing_memory(wildcards, attempt):
    """Memory of a job that stores states, in MB; more at each further attempt."""
    return grown(settings.storing_mb(wildcards.tokens), attempt)


def together_memory(wildcards, attempt):
    """Memory of a job that trains several fusers, in MB; more at each further attempt."""
    return grown(settings.together_mb(trained_together(wildcards)), attempt)


def listed(files):
    """The files of an input as a list, which Snakemake gives as a text where there is one."""
    return list(files) if isinstance(files, (list, tuple)) else [files]


def latent_models(role):
    """The manifests of the Receivers or the Sharers of a latent space, one a pair."""
    return lambda wildcards: [
        f"<results>/models/{settings.pairs[pair][role]}.json" for pair in latent_pairs(settings, wildcards.latent)
    ]


def latent_sets(part):
    """The tokenised training or validation sets of a latent space, one a pair."""
    return lambda wildcards: [
        f"<results>/data/tokenised/{folder}/{part}.parquet" for folder in latent_tokenised(settings, wildcards.latent)
    ]


def timed_fuser(wildcards):
    """The training whose Fusers are timed."""
    return settings.timed_fusers[wildcards.measurement]


def timed_model(role):
    """The manifest of the Receiver or the Sharer that is timed."""
    return lambda wildcards: f"<results>/models/{settings.pairs[timed_fuser(wildcards).pair][role]}.json"


def timed_questions(wildcards):
    """The prepared questions that are timed, a file a task."""
    return [questions_of(task) for task in settings.timed_tasks(timed_fuser(wildcards).pair)]


def timed_task_files(wildcards):
    """The files of the tasks that are timed, each once."""
    tasks = settings.timed_tasks(timed_fuser(wildcards).pair)
    return list(dict.fromkeys(path for task in tasks for path in settings.data.task_files(task)))


def timed_question_flags(wildcards, input):
    """The prepared questions that are timed as the command line takes them: ID=FILE."""
    tasks = settings.timed_tasks(timed_fuser(wildcards).pair)
    return [f"{task}={path}" for task, path in zip(tasks, listed(input.questions), strict=True)]


def timing_memory(wildcards, attempt):
    """Memory of a job that times a pair, in MB; more at each further attempt."""
    return grown(settings.answering_mb(timed_fuser(wildcards).pair), attempt)


def latency_flags(wildcards):
    """Recipe, alignment and seed of the Fusers that are timed, as flags."""
    run = timed_fuser(wildcards)
    return flags({"recipe": run.recipe, "alignment": run.alignment, "seed": run.seed})


def optional_flag(flag, name):
    """A function that gives a flag with the input `name`, or nothing where this scale has no such input."""

    def words(wildcards, input):
        return [flag, *listed(input[name])] if input[name] else []

    return words


def artefacts_of_scale():
    """Every table and figure that this scale can make; some need times, an analysis or released Fusers."""
    return [
        artefact
        for artefact in read_artefacts()
        if (config["latency"] or not artefact.timed)
        and (config.get("released") or RELEASED not in artefact.reads.values())
        and (config.get("testbed") or not of_testbed(artefact))
        and (not artefact.analysis or artefact.analysis in analysis.kinds(config))
    ]


def result_files():
    """Each file, below the results folder, of what this scale shows: scores, times, verdicts, artefacts and the paper."""
    times = ["latency.csv"] if config["latency"] else []
    paper = ["paper/paper.pdf"] if config["artefacts"]["paper"] else []
    bed = ["testbed/gate.json"] if config.get("testbed") else []
    names = [(kind, name) for kind in ("table", "figure") for name in config["artefacts"][f"{kind}s"]]
    artefacts = [file for kind, name in names for file in of_kind(kind)[name].files]
    return ["scores.csv", "questions.parquet", *times, "claims.json", "claims_time.json", *bed, *artefacts, *paper]


def tables_of_claims():
    """The tables, and files of analyses, that claims read, of those that this scale makes."""
    tables = {f"tables/{name}.csv" for name in config["artefacts"]["tables"]}
    kinds = tuple(f"analysis/{kind}/" for kind in analysis.kinds(config))
    return [f"<results>/{file}" for file in claim_files() if file in tables or file.startswith(kinds)]


def bed_job(wildcards):
    """The job of a pair, task and seed."""
    return BED_JOBS[f"{wildcards.bed_pair}/{wildcards.bed_task}/seed{wildcards.seed}"]


def item_maker(task):
    """The program that makes the items of a task, with what it needs to know of the task."""
    return ["benchmarks.world.items"] if task == WORLD_TASK else ["c2c.testbed.tasks.make", "--task", task]


def bed_tasks(of_benchmarks):
    """The tasks of the test bed that are benchmarks, or the others."""
    tasks = dict.fromkeys(job.task for job in BED_JOBS.values())
    return [re.escape(task) for task in tasks if is_benchmark(settings, task) == of_benchmarks]


def bed_models(wildcards):
    """Manifests of a pair's models."""
    row = settings.pairs[wildcards.bed_pair]
    return {role: f"<results>/models/{row[role]}.json" for role in ("receiver", "sharer")}


def bed_records(tasks=None):
    """Records of the test bed; of some tasks alone where given."""
    return [
        f"<results>/testbed/records/{path}.parquet" for path, job in BED_JOBS.items() if not tasks or job.task in tasks
    ]


def bed_artefacts():
    """Each file, below the results folder, of the tables and figures of the test bed."""
    names = [(kind, name) for kind in ("table", "figure") for name in config["testbed"].get(f"{kind}s", [])]
    return [file for kind, name in names for file in of_kind(kind)[name].files]


def testbed_files(suffix):
    """The records of the test bed, or the files that lie next to them, of every pair, task and seed."""
    return [f"<results>/testbed/records/{path}{suffix}" for path in BED_JOBS]


def source_files(source):
    """The files of one source in paper/artefacts.yaml."""
    if source == RECORDS:
        return all_records(None)
    if source == RELEASED:
        return released_records(None)
    if source in (TESTBED, CURVES):
        return testbed_files(".parquet" if source == TESTBED else ".curves.csv")
    if source == LATENCY and not config["latency"]:
        return []
    if "{run}" in source:
        return collect(f"<results>/{source}", run=fuser_runs(aside=False))
    if "{pair}" in source:
        return collect(f"<results>/{source}", pair=settings.used_pairs)
    return [f"<results>/{source}"]


def sources_of(kind):
    """A function that gives the files that a table or figure reads, by flag."""

    def files(wildcards):
        return {flag: source_files(source) for flag, source in of_kind(kind)[wildcards[kind]].reads.items()}

    return files


def flags_of(kind):
    """A function that gives those files as the command line takes them."""

    def words_of(wildcards, input):
        reads = of_kind(kind)[wildcards[kind]].reads
        files = {flag: listed(input[flag]) for flag in reads}
        folders = {"fusers": [os.path.dirname(path) for path in files.get("fusers", [])]}
        words = [[f"--{flag}", *{**files, **folders}[flag]] for flag in reads if files[flag]]
        protocol = ["--protocol", config["protocol"]] if RECORDS in reads else []
        return [word for flag in [*words, protocol] for word in flag]

    return words_of


def entry_of(kind, key):
    """A function that gives the value of `key` of a table or figure in paper/artefacts.yaml."""

    def text(wildcards):
        value = getattr(of_kind(kind)[wildcards[kind]], key)
        return value if isinstance(value, str) else ", ".join(value)

    return text


def command_of(kind):
    """A function that gives the command of a table or figure with patterns in the place of many files."""
    return lambda wildcards: of_kind(kind)[wildcards[kind]].command(f"results/{config['scale']}")


def config_files():
    """The config files of this run, relative to the working directory, in the order in which they override each other."""
    return [os.path.relpath(path) for path in workflow.overwrite_configfiles or workflow.configfiles]


def paper_sources():
    """The text of the paper, and what it takes names, published values, captions and citations from."""
    folder = Path(source("paper"))
    sources = [
        *folder.glob("*.typ"),
        *folder.glob("text/*.typ"),
        *folder.glob("*.yaml"),
        folder / "deviations.md",
        folder / "coverage.csv",
    ]
    written = [*sources, folder / "reference_values.csv", source("CITATION.cff")]
    return sorted([*map(str, written), *report_captions()])


def report_captions():
    """The texts of the report."""
    return sorted(str(path) for path in Path(source("workflow/report")).glob("*.rst"))
