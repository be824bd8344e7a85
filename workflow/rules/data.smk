# Real benchmarks and training sets as JSON lines; those of the knowledge-gap world come from build_world.


rule prepare_benchmark:
    input:
        task="benchmarks/tasks/{benchmark}.yaml",
    output:
        questions="<results>/data/benchmarks/{benchmark}.jsonl",
        provenance="<results>/data/benchmarks/{benchmark}.jsonl.provenance.json",
    log:
        "<results>/logs/prepare_benchmark/{benchmark}.log",
    benchmark:
        "<results>/benchmarks/prepare_benchmark/{benchmark}.tsv"
    wildcard_constraints:
        benchmark=one_of(settings.from_source("benchmarks", "hub")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        source=lambda wildcards: flags(settings.dataset("benchmarks", wildcards.benchmark)),
    message:
        "Preparing the questions of {wildcards.benchmark}: {params.source}"
    shell:
        "HF_HUB_OFFLINE=0 python -m benchmarks.prepare benchmark --template {input.task} {params.source}"
        " --output {output.questions} > {log} 2>&1"


rule prepare_training_set:
    input:
        template=lambda wildcards: settings.training_sets[wildcards.training_set]["template"],
    output:
        train="<results>/data/training/{training_set}/train.jsonl",
        validation="<results>/data/training/{training_set}/validation.jsonl",
        train_provenance="<results>/data/training/{training_set}/train.jsonl.provenance.json",
        validation_provenance="<results>/data/training/{training_set}/validation.jsonl.provenance.json",
    log:
        "<results>/logs/prepare_training_set/{training_set}.log",
    benchmark:
        "<results>/benchmarks/prepare_training_set/{training_set}.tsv"
    wildcard_constraints:
        training_set=one_of(settings.from_source("training_sets", "hub")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        source=lambda wildcards: flags(settings.dataset("training_sets", wildcards.training_set)),
    message:
        "Preparing the training set {wildcards.training_set}: {params.source}"
    shell:
        "HF_HUB_OFFLINE=0 python -m benchmarks.prepare training-set --template {input.template} {params.source}"
        " --train-output {output.train} --validation-output {output.validation} > {log} 2>&1"
