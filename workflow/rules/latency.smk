# Times, one question at a time. A measurement takes all cores, so that nothing else runs meanwhile.


rule measure_latency:
    input:
        receiver=receiver_manifest,
        sharer=sharer_manifest,
        fuser=lambda wildcards: f"<results>/fusers/{settings.latency_run(wildcards.pair).path}/manifest.json",
        questions=questions_of(config["latency"]["benchmark"]),
        tasks=settings.data.task_files(config["latency"]["benchmark"]),
    output:
        records="<results>/latency/{pair}.parquet",
        provenance="<results>/latency/{pair}.parquet.provenance.json",
    log:
        "<results>/logs/measure_latency/{pair}.log",
    benchmark:
        "<results>/benchmarks/measure_latency/{pair}.tsv"
    conda:
        "../../environment.yml"
    threads: workflow.cores
    resources:
        mem_mb=answering_memory,
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        tasks=TASKS,
        scale=config["scale"],
        folder=subpath(input.fuser, parent=True),
        fuser=latency_flags,
        methods=config["latency"]["methods"],
        benchmark=config["latency"]["benchmark"],
        prompts=prompts_of,
        settings=flags(settings.latency),
    message:
        "Timing {wildcards.pair} alone: {params.methods}"
    shell:
        "c2c latency --scale {params.scale:q} --pair {wildcards.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharer:q}"
        " --fuser {params.folder:q} {params.fuser:q} --methods {params.methods:q} --prompts {params.prompts:q}"
        " --tasks {params.tasks:q}"
        " --benchmarks {params.benchmark:q}={input.questions:q} {params.settings:q} --output {output.records:q}"
        " > {log:q} 2>&1"


rule summarise_latency:
    input:
        records=collect("<results>/latency/{pair}.parquet", pair=settings.timed_pairs),
    output:
        latency=report(
            "<results>/latency.csv",
            caption="../report/latency.rst",
            category="Data",
            labels={"what": "latency"},
        ),
        provenance="<results>/latency.csv.provenance.json",
    log:
        "<results>/logs/summarise_latency.log",
    benchmark:
        "<results>/benchmarks/summarise_latency.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    message:
        "Averaging times by method and phase"
    shell:
        "python -m paper.summarise_latency --records {input.records:q} --output {output.latency:q} > {log:q} 2>&1"
