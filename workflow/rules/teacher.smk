# Training sets whose answers a model wrote: the questions are prepared like any other, and the teacher answers them.


rule write_teacher_answers:
    input:
        model=lambda wildcards: f"<results>/models/{settings.teachers[wildcards.training_set]}.json",
        lines=lambda wildcards: f"<results>/data/training/{settings.data.parts(wildcards.training_set)[0]}/{wildcards.part}.jsonl",
    output:
        lines="<results>/data/training/{training_set}/{part}.jsonl",
        provenance="<results>/data/training/{training_set}/{part}.jsonl.provenance.json",
    log:
        "<results>/logs/write_teacher_answers/{training_set}/{part}.log",
    benchmark:
        "<results>/benchmarks/write_teacher_answers/{training_set}/{part}.tsv"
    wildcard_constraints:
        training_set=one_of(settings.teachers),
    retries: config["training"]["retries"]
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards: settings.teacher_mb(wildcards.training_set),
        runtime=TRAIN_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        settings=flags({**config["teacher"], **settings.generation}),
    message:
        "Answers to learn from, the {wildcards.part} set of {wildcards.training_set}; progress: tail -f {log}"
    shell:
        "python -m benchmarks.teacher --model {input.model:q} --lines {input.lines:q} {params.settings:q}"
        " --output {output.lines:q} >> {log:q} 2>&1"
