# Benchmarks on which the Sharer alone can know the answer: questions and training sets, made by code from a seed.


rule make_gap_benchmark:
    input:
        source("benchmarks/private/words.tsv"),
        source("c2c/testbed/tasks/values.tsv"),
    output:
        questions="<results>/data/benchmarks/{benchmark}.jsonl",
        provenance="<results>/data/benchmarks/{benchmark}.jsonl.provenance.json",
    log:
        "<results>/logs/make_gap_benchmark/{benchmark}.log",
    benchmark:
        "<results>/benchmarks/make_gap_benchmark/{benchmark}.tsv"
    wildcard_constraints:
        benchmark=one_of(settings.from_source("benchmarks", "gap")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        settings=lambda wildcards: flags(settings.data.gap(wildcards.benchmark)),
    message:
        "Making the questions of {wildcards.benchmark}: {params.settings}"
    shell:
        "python -m benchmarks.private.make {params.settings:q} --benchmark {output.questions:q} > {log:q} 2>&1"


rule make_gap_training_set:
    input:
        source("benchmarks/private/words.tsv"),
        source("c2c/testbed/tasks/values.tsv"),
        prompts=settings.data.gap_prompts(),
    output:
        train="<results>/data/training/{training_set}/train.jsonl",
        validation="<results>/data/training/{training_set}/validation.jsonl",
        train_provenance="<results>/data/training/{training_set}/train.jsonl.provenance.json",
        validation_provenance="<results>/data/training/{training_set}/validation.jsonl.provenance.json",
    log:
        "<results>/logs/make_gap_training_set/{training_set}.log",
    benchmark:
        "<results>/benchmarks/make_gap_training_set/{training_set}.tsv"
    wildcard_constraints:
        training_set=one_of(settings.from_source("training_sets", "gap")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        tasks=TASKS,
        settings=lambda wildcards: flags(settings.data.gap(wildcards.training_set)),
        folder=subpath(output.train, parent=True),
    message:
        "Making the training set {wildcards.training_set}: {params.settings}"
    shell:
        "python -m benchmarks.private.make {params.settings:q} --tasks {params.tasks:q} --training-set {params.folder:q}"
        " > {log:q} 2>&1"
