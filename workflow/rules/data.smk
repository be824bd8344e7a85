# Real benchmarks and training sets as JSON lines; those of the knowledge-gap world come from build_world.


rule prepare_benchmark:
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
        source=lambda wildcards: flags(settings.data.preparation(wildcards.benchmark)),
    message:
        "Preparing the questions of {wildcards.benchmark}: {params.source}"
    shell:
        "HF_HUB_OFFLINE=0 python -m benchmarks.prepare benchmark {params.source:q} --output {output.questions:q}"
        " > {log:q} 2>&1"


rule prepare_training_questions:
    output:
        questions="<results>/data/training_questions/{benchmark}.jsonl",
        provenance="<results>/data/training_questions/{benchmark}.jsonl.provenance.json",
    log:
        "<results>/logs/prepare_training_questions/{benchmark}.log",
    benchmark:
        "<results>/benchmarks/prepare_training_questions/{benchmark}.tsv"
    wildcard_constraints:
        benchmark=one_of(settings.data.with_training_questions),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        source=lambda wildcards: flags(settings.data.training_questions(wildcards.benchmark)),
    message:
        "Preparing the questions of the training split of {wildcards.benchmark}: {params.source}"
    shell:
        "HF_HUB_OFFLINE=0 python -m benchmarks.prepare benchmark {params.source:q} --output {output.questions:q}"
        " > {log:q} 2>&1"


rule prepare_training_set:
    input:
        prompts=lambda wildcards: settings.data.prompt_files(wildcards.training_set),
        benchmarks=prepared_benchmarks,
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
        training_set=one_of(settings.from_source("training_sets", "hub", "mix")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        tasks=TASKS,
        sources=lambda wildcards: settings.data.sources(wildcards.training_set),
        asking=lambda wildcards: flags(settings.data.asking(wildcards.training_set)),
    message:
        "Preparing the training set {wildcards.training_set}: {params.sources} {params.asking}"
    shell:
        "HF_HUB_OFFLINE=0 python -m benchmarks.prepare training-set --source {params.sources:q} {params.asking:q}"
        " --tasks {params.tasks:q} --without {input.benchmarks:q}"
        " --train-output {output.train:q} --validation-output {output.validation:q} > {log:q} 2>&1"
