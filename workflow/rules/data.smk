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


rule prepare_own_benchmark:
    input:
        questions=lambda wildcards: f"{settings.data.own_folder(wildcards.benchmark)}/questions.jsonl",
    output:
        questions="<results>/data/benchmarks/{benchmark}.jsonl",
        provenance="<results>/data/benchmarks/{benchmark}.jsonl.provenance.json",
    log:
        "<results>/logs/prepare_own_benchmark/{benchmark}.log",
    benchmark:
        "<results>/benchmarks/prepare_own_benchmark/{benchmark}.tsv"
    wildcard_constraints:
        benchmark=one_of(settings.from_source("benchmarks", "file")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        sample=config["sample"] or 0,
    message:
        "Checking the questions of {wildcards.benchmark}: {input.questions}"
    shell:
        "python -m benchmarks.prepare own-benchmark --questions {input.questions:q} --sample {params.sample:q}"
        " --output {output.questions:q} > {log:q} 2>&1"


rule write_own_task:
    input:
        task=lambda wildcards: "{0}/{1}.yaml".format(
            settings.data.own_folder(settings.data.benchmark_of[wildcards.task]),
            settings.data.benchmark_of[wildcards.task],
        ),
        questions=lambda wildcards: questions_of(wildcards.task),
        prompts=settings.data.shared_prompts(),
    output:
        task="<results>/data/benchmarks/{task}.yaml",
        provenance="<results>/data/benchmarks/{task}.yaml.provenance.json",
    log:
        "<results>/logs/write_own_task/{task}.log",
    benchmark:
        "<results>/benchmarks/write_own_task/{task}.tsv"
    wildcard_constraints:
        task=one_of(settings.data.own_tasks),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        folder=subpath(input.task, parent=True),
        scoring=lambda wildcards: settings.data.scoring_of(wildcards.task),
        tasks=TASKS,
    message:
        "Writing the task {wildcards.task} of {input.task}"
    shell:
        "python -m benchmarks.prepare own-task --folder {params.folder:q} --scoring {params.scoring:q}"
        " --task {wildcards.task:q} --questions {input.questions:q} --tasks {params.tasks:q} --output {output.task:q}"
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
        files=lambda wildcards: settings.data.files(wildcards.training_set),
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
        training_set=one_of(settings.from_source("training_sets", "hub", "mix", "file")),
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
