# The trained router: both models answer questions of training splits, and it learns who is right where the other is not.


rule prepare_router_questions:
    output:
        questions="<results>/data/router/{benchmark}.jsonl",
        provenance="<results>/data/router/{benchmark}.jsonl.provenance.json",
    log:
        "<results>/logs/prepare_router_questions/{benchmark}.log",
    wildcard_constraints:
        benchmark=one_of(settings.data.with_training_questions),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        source=lambda wildcards: flags(
            {
                **settings.data.training_questions(wildcards.benchmark),
                "sample": config["router"]["questions"],
            }
        ),
    message:
        "Preparing training questions of {wildcards.benchmark} for routers: {params.source}"
    shell:
        "HF_HUB_OFFLINE=0 python -m benchmarks.prepare benchmark {params.source} --output {output.questions} > {log} 2>&1"


rule answer_router_questions:
    input:
        receiver=receiver_manifest,
        sharer=sharer_manifest,
        questions=router_questions,
        tasks=task_files,
    output:
        records="<results>/records/{pair}/router_training.parquet",
        provenance="<results>/records/{pair}/router_training.parquet.provenance.json",
    log:
        "<results>/logs/answer_router_questions/{pair}.log",
    benchmark:
        "<results>/benchmarks/answer_router_questions/{pair}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=answering_memory,
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        scale=config["scale"],
        benchmarks=router_benchmark_flags,
        prompts=prompts_of,
        settings=flags({"token_budget": config["generation"]["token_budget"]}),
    message:
        "Answering training questions with the single models of {wildcards.pair}, for its router; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale} --pair {wildcards.pair} --receiver {input.receiver} --sharer {input.sharer}"
        " --methods receiver sharer --prompts {params.prompts} --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks} {params.settings} --output {output.records} >> {log} 2>&1"


rule train_router:
    input:
        receiver=receiver_manifest,
        records="<results>/records/{pair}/router_training.parquet",
        questions=router_questions,
        tasks=task_files,
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
        folder=subpath(output.about, parent=True),
        benchmarks=router_benchmark_flags,
        prompts=prompts_of,
        settings=flags({"token_budget": config["generation"]["token_budget"]}),
    message:
        "Training the router of {wildcards.pair}"
    shell:
        "c2c train-router --receiver {input.receiver} --records {input.records} --prompts {params.prompts}"
        " --tasks benchmarks/tasks --benchmarks {params.benchmarks} {params.settings} --output {params.folder}"
        " >> {log} 2>&1"
