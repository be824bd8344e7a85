# The workflow from models and data to the paper. Run it from here: snakemake --profile smoke
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from c2c.errors import RefusedError
from c2c.provenance import CONFIG_HASH, settings_hash
from workflow.checks import check_mirrors
from workflow.holders import hold
from workflow.hub_inputs import check_start, warning
from workflow.kinds import analysis
from workflow.kinds.latent import (
    latent_memory_mb,
    latent_names,
    latent_pairs,
    latent_tokenised,
    latent_training,
)
from workflow.kinds.registry import answer_jobs
from workflow.kinds.released import released_source
from workflow.kinds.router import router_answers
from workflow.load import load_settings
from workflow.plan.report import statement
from workflow.plan.stages import grown, job_memory_mb, own_container, read_timings
from workflow.settings import OWN_TOKENS, flags

min_version("9.27")


configfile: "config/config.yaml"


try:
    settings = load_settings(config)
    if workflow.is_main_process:
        check_mirrors()
except RefusedError as refusal:
    raise WorkflowError(f"The config is refused before any job starts.\n{refusal}") from None

# Every job parses this file on the machine it runs on, so these hold in all of them.
os.environ.update(HF_HUB_OFFLINE="1", PYTHONHASHSEED="0", TOKENIZERS_PARALLELISM="false")
os.environ[CONFIG_HASH] = settings_hash(config)
os.environ.setdefault("HF_HOME", os.path.abspath("resources/hf"))


pathvars:
    results=f"results/{config['scale']}",


if own_container():

    # Used with --software-deployment-method apptainer.
    container: own_container()


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/gap.smk"
include: "workflow/rules/teacher.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/router.smk"
include: "workflow/rules/answer.smk"
include: "workflow/rules/released.smk"
include: "workflow/rules/single.smk"
include: "workflow/rules/latent.smk"
include: "workflow/rules/score.smk"


if config["latency"]:

    include: "workflow/rules/latency.smk"


include: "workflow/rules/analyse_common.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/artefacts.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/crate.smk"


rule all:
    default_target: True
    input:
        # The report alone would not miss a file that a killed, forced job has removed.
        rules.results.input,
        "<results>/report.html",


# Said by a dry run too, but not by each job, which parses this file again.
if workflow.is_main_process:
    print(*filter(None, [statement(settings, read_timings()), warning(settings)]), sep="\n", file=sys.stderr)
    # Before Snakemake takes its locks, so that whoever finds one knows whose it is.
    hold(Path.cwd())


onstart:
    try:
        check_start(settings)
    except RefusedError as refusal:
        raise WorkflowError(f"The run is refused before any job starts.\n{refusal}") from None
