# Published fusers: fetched, not trained, and asked as trained ones are. Target: snakemake --profile slurm released


rule fetch_fuser:
    output:
        manifest="<results>/released/{released}.json",
        provenance="<results>/released/{released}.json.provenance.json",
    log:
        "<results>/logs/fetch_fuser/{released}.log",
    benchmark:
        "<results>/benchmarks/fetch_fuser/{released}.tsv"
    wildcard_constraints:
        released=one_of(settings.released),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        source=lambda wildcards: flags(fetched_fuser(settings, wildcards.released)),
    message:
        "Fetching published fusers, from a mirror in C2C_HUB_MIRROR or the hub: {params.source}"
    shell:
        "HF_HUB_OFFLINE=0 c2c fetch-fuser {params.source:q} --output {output.manifest:q} > {log:q} 2>&1"


rule generate_released:
    input:
        receiver=lambda wildcards: receiver_manifest(pair_of_released(wildcards)),
        sharer=lambda wildcards: sharer_manifest(pair_of_released(wildcards)),
        fuser="<results>/released/{released}.json",
        questions=lambda wildcards: benchmark_files(pair_of_released(wildcards)),
        tasks=lambda wildcards: task_files(pair_of_released(wildcards)),
    output:
        records="<results>/records/released/{released}.parquet",
        provenance="<results>/records/released/{released}.parquet.provenance.json",
    log:
        "<results>/logs/generate_released/{released}.log",
    benchmark:
        "<results>/benchmarks/generate_released/{released}.tsv"
    wildcard_constraints:
        released=one_of(settings.released),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: answering_memory(pair_of_released(wildcards), attempt),
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        scale=config["scale"],
        pair=lambda wildcards: pair_of_released(wildcards).pair,
        methods=RELEASED_METHODS,
        benchmarks=lambda wildcards, input: benchmark_flags(pair_of_released(wildcards), input),
        prompts=lambda wildcards: prompts_of(pair_of_released(wildcards)),
        settings=flags(settings.generation),
    message:
        "Answering with the published fusers {wildcards.released}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {params.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharer:q}"
        " --fuser {input.fuser:q} --recipe released --methods {params.methods:q} --prompts {params.prompts:q}"
        " --tasks benchmarks/tasks --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q}"
        " >> {log:q} 2>&1"
