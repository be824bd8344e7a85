# Times, one question at a time. A measurement takes all cores, so that nothing else runs meanwhile.


rule measure_latency:
    input:
        receiver=timed_model("receiver"),
        sharer=timed_model("sharer"),
        fuser=lambda wildcards: f"<results>/fusers/{timed_fuser(wildcards).path}/manifest.json",
        questions=timed_questions,
        tasks=timed_task_files,
    output:
        records="<results>/latency/{measurement}.parquet",
        provenance="<results>/latency/{measurement}.parquet.provenance.json",
    log:
        "<results>/logs/measure_latency/{measurement}.log",
    benchmark:
        "<results>/benchmarks/measure_latency/{measurement}.tsv"
    wildcard_constraints:
        measurement=one_of(settings.timed_fusers),
    conda:
        "../../environment.yml"
    threads: workflow.cores
    resources:
        mem_mb=timing_memory,
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        tasks=TASKS,
        scale=config["scale"],
        folder=subpath(input.fuser, parent=True),
        fuser=latency_flags,
        pair=lambda wildcards: timed_fuser(wildcards).pair,
        methods=lambda wildcards: settings.timed_methods(timed_fuser(wildcards)),
        questions=timed_question_flags,
        prompts=lambda wildcards: settings.prompts(timed_fuser(wildcards).pair),
        settings=flags(settings.latency),
    message:
        "Timing {wildcards.measurement} alone: {params.methods}"
    shell:
        "c2c latency --scale {params.scale:q} --pair {params.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharer:q}"
        " --fuser {params.folder:q} {params.fuser:q} --methods {params.methods:q} --prompts {params.prompts:q}"
        " --tasks {params.tasks:q}"
        " --benchmarks {params.questions:q} {params.settings:q} --output {output.records:q}"
        " > {log:q} 2>&1"


rule summarise_latency:
    input:
        records=collect("<results>/latency/{measurement}.parquet", measurement=settings.timed_fusers),
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
