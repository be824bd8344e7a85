# What the rules of several Sharers, published fusers and two agents share: functions only.
from types import SimpleNamespace


def group_of(wildcards):
    """The run of a group that the wildcards name."""
    return GroupRun(wildcards.group, wildcards.fusion, wildcards.alignment, int(wildcards.seed))


def fusers_of_group(file):
    """A file of the Fusers of each pair of a group, in their order."""
    return lambda wildcards: [
        f"<results>/fusers/{run.path}/{file}" for run in member_runs(settings, group_of(wildcards))
    ]


def first_pair(wildcards):
    """What functions of wildcards need of a pair that is asked as the group is."""
    return SimpleNamespace(pair=members(settings, wildcards.group)[0])


def pair_of_released(wildcards):
    """What functions of wildcards need of the pair that published fusers are for."""
    return SimpleNamespace(pair=settings.released[wildcards.released]["pair"])


def records_of_released(wildcards):
    """Records of the published fusers of this scale, and of their models alone."""
    pairs = dict.fromkeys(settings.released[name]["pair"] for name in config["released"])
    return [
        *collect("<results>/records/{pair}/baselines.parquet", pair=pairs),
        *collect("<results>/records/released/{fuser}.parquet", fuser=config["released"]),
    ]


RELEASED_METHODS = ["c2c", "c2c_deranged", "c2c_zeroed"]


def agent_questions(wildcards):
    """The prepared questions of the tasks that say what two agents read."""
    return [questions_of(task) for task in agent_tasks(settings, wildcards.pair)]


def agent_flags(wildcards, input):
    """Those questions as the command line takes them: ID=FILE."""
    named = zip(agent_tasks(settings, wildcards.pair), input.questions, strict=True)
    return [f"{task}={path}" for task, path in named]


def agent_fuser(file):
    """A file of the Fuser that the agents of a pair are asked with."""
    return lambda wildcards: f"<results>/fusers/{agent_run(settings, wildcards.pair).path}/{file}"


AGENT_METHODS = ["t2t_agents", "t_c2c", "t_c2c_deranged"]
