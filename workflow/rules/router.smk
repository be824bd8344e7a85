# The trained router: both models answer questions of training splits, and it learns who is right where the other is not.


rule answer_router_questions:
    input:
        unpack(files_of_job),
    output:
        records="<results>/routers/{pair}/answers.parquet",
        provenance="<results>/routers/{pair}/answers.parquet.provenance.json",
    log:
        "<results>/logs/answer_router_questions/{pair}.log",
    benchmark:
        "<results>/benchmarks/answer_router_questions/{pair}.tsv"
    wildcard_constraints:
        pair=one_of(ROUTER_ANSWERS),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=job_memory,
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        tasks=TASKS,
        scale=config["scale"],
        methods=lambda wildcards: job_of(wildcards).methods,
        prompts=prompts_of,
        benchmarks=question_flags,
        settings=flags(settings.generation),
        subject=lambda wildcards: job_of(wildcards).subject,
    message:
        "Answering with {params.subject}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {wildcards.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharers:q} --methods {params.methods:q} --prompts {params.prompts:q} --tasks {params.tasks:q}"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"


rule train_router:
    input:
        receiver=receiver_manifest,
        records="<results>/routers/{pair}/answers.parquet",
        questions=lambda wildcards: files_of_job(wildcards)["questions"],
        tasks=lambda wildcards: files_of_job(wildcards)["tasks"],
    output:
        weights="<results>/routers/{pair}/router.safetensors",
        about="<results>/routers/{pair}/router.json",
        provenance="<results>/routers/{pair}.provenance.json",
    log:
        "<results>/logs/train_router/{pair}.log",
    benchmark:
        "<results>/benchmarks/train_router/{pair}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=answering_memory,
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        tasks=TASKS,
        folder=subpath(output.about, parent=True),
        benchmarks=question_flags,
        prompts=prompts_of,
        settings=flags(settings.generation),
    message:
        "Training the router of {wildcards.pair}"
    shell:
        "c2c train-router --receiver {input.receiver:q} --records {input.records:q} --prompts {params.prompts:q}"
        " --tasks {params.tasks:q} --benchmarks {params.benchmarks:q} {params.settings:q} --output {params.folder:q}"
        " >> {log:q} 2>&1"
