# The test bed: items for the tokenizers of a pair or of a benchmark, and the records of all channels. docs/testbed.md


wildcard_constraints:
    bed_pair=one_of(dict.fromkeys(job.pair for job in BED_JOBS.values())),
    bed_task=one_of(dict.fromkeys(job.task for job in BED_JOBS.values())),


rule make_items:
    input:
        unpack(bed_models),
        source("c2c/testbed/tasks/values.tsv"),
        world=lambda wildcards: "<results>/world/world.json" if wildcards.bed_task == WORLD_TASK else [],
    output:
        train="<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/train.jsonl",
        validation="<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/validation.jsonl",
        test="<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/test.jsonl",
        provenance=[
            "<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/train.jsonl.provenance.json",
            "<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/validation.jsonl.provenance.json",
            "<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/test.jsonl.provenance.json",
        ],
    log:
        "<results>/logs/make_items/{bed_pair}/{bed_task}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/make_items/{bed_pair}/{bed_task}/seed{seed}.tsv"
    wildcard_constraints:
        bed_task=one_of(bed_tasks(False)),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        settings=lambda wildcards: flags(item_settings(settings, wildcards.bed_task)),
        folder=subpath(output.test, parent=True),
        maker=lambda wildcards: item_maker(wildcards.bed_task),
        world=optional_flag("--world", "world"),
    message:
        "Making the items of {wildcards.bed_task} for {wildcards.bed_pair}, seed {wildcards.seed}"
    shell:
        "python -m {params.maker:q} --seed {wildcards.seed:q} {params.settings:q}"
        " {params.world:q} --tokenizers {input.receiver:q} {input.sharer:q} --output {params.folder:q} > {log:q} 2>&1"


# Both models read the whole question. Training questions are those of the pair's training set.
rule make_choice_items:
    input:
        questions=lambda wildcards: questions_of(wildcards.bed_task),
        task=lambda wildcards: settings.data.task_files(wildcards.bed_task),
        files=lambda wildcards: settings.data.files(settings.pairs[wildcards.bed_pair]["training_set"]),
        benchmarks=prepared_benchmarks,
    output:
        train="<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/train.jsonl",
        validation="<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/validation.jsonl",
        test="<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/test.jsonl",
        provenance=[
            "<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/train.jsonl.provenance.json",
            "<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/validation.jsonl.provenance.json",
            "<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/test.jsonl.provenance.json",
        ],
    log:
        "<results>/logs/make_choice_items/{bed_pair}/{bed_task}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/make_choice_items/{bed_pair}/{bed_task}/seed{seed}.tsv"
    wildcard_constraints:
        bed_task=one_of(bed_tasks(True)),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        settings=lambda wildcards: flags(item_settings(settings, wildcards.bed_task)),
        sources=lambda wildcards: settings.data.sources(settings.pairs[wildcards.bed_pair]["training_set"]),
        folder=subpath(output.test, parent=True),
        tasks=TASKS,
    message:
        "Making the items of the benchmark {wildcards.bed_task} for {wildcards.bed_pair}, seed {wildcards.seed}"
    shell:
        "HF_HUB_OFFLINE=0 python -m benchmarks.choice_items --task {wildcards.bed_task:q} --seed {wildcards.seed:q}"
        " {params.settings:q} --questions {input.questions:q} --tasks {params.tasks:q} --source {params.sources:q}"
        " --without {input.benchmarks:q} --output {params.folder:q} > {log:q} 2>&1"


rule measure_channels:
    input:
        unpack(bed_models),
        train="<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/train.jsonl",
        validation="<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/validation.jsonl",
        test="<results>/testbed/items/{bed_pair}/{bed_task}/seed{seed}/test.jsonl",
    output:
        records="<results>/testbed/records/{bed_pair}/{bed_task}/seed{seed}.parquet",
        curves="<results>/testbed/records/{bed_pair}/{bed_task}/seed{seed}.curves.csv",
        provenance="<results>/testbed/records/{bed_pair}/{bed_task}/seed{seed}.parquet.provenance.json",
    log:
        "<results>/logs/measure_channels/{bed_pair}/{bed_task}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/measure_channels/{bed_pair}/{bed_task}/seed{seed}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards: bed_mb(settings, bed_job(wildcards)),
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        folder=subpath(input.test, parent=True),
        channels=lambda wildcards: bed_job(wildcards).channels,
        settings=lambda wildcards: bed_job(wildcards).settings,
        scale=config["scale"],
    message:
        "Sending messages of {wildcards.bed_pair} through {params.channels}: {wildcards.bed_task}, seed {wildcards.seed};"
        " progress: tail -f {log}"
    shell:
        "c2c testbed --scale {params.scale:q} --pair {wildcards.bed_pair:q} --seed {wildcards.seed:q}"
        " --receiver {input.receiver:q} --sharer {input.sharer:q} --items {params.folder:q}"
        " --channels {params.channels:q} --settings {params.settings:q} --dtype float32"
        " --output {output.records:q} > {log:q} 2>&1"


# Ends with an error where the instrument itself is broken: then no number of the run counts.
rule check_gate:
    input:
        records=bed_records(),
    output:
        gate="<results>/testbed/gate.json",
        provenance="<results>/testbed/gate.json.provenance.json",
    log:
        "<results>/logs/check_gate.log",
    benchmark:
        "<results>/benchmarks/check_gate.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    message:
        "Checking that copied states reach their bound and random states do nothing"
    shell:
        "python -m paper.communication.gate --testbed {input.records:q} --output {output.gate:q} > {log:q} 2>&1"


if config.get("testbed"):

    rule testbed:
        input:
            rules.check_gate.output.gate,
            [f"<results>/{path}" for path in bed_artefacts()],
        localrule: True

    rule redacted:
        input:
            bed_records(REDACTED),
        localrule: True
