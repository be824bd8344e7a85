# Several Sharers at once, whose Fusers were trained alone: no further training (Table 13).


rule generate_group:
    input:
        receiver=lambda wildcards: receiver_manifest(first_pair(wildcards)),
        sharers=lambda wildcards: [
            f"<results>/models/{settings.pairs[pair]['sharer']}.json" for pair in members(settings, wildcards.group)
        ],
        fusers=fusers_of_group("manifest.json"),
        weights=fusers_of_group("model.safetensors"),
        configs=fusers_of_group("config.json"),
        questions=lambda wildcards: benchmark_files(first_pair(wildcards)),
        tasks=lambda wildcards: task_files(first_pair(wildcards)),
    output:
        records="<results>/records/groups/{group}/{fusion}/{alignment}/seed{seed}.parquet",
        provenance="<results>/records/groups/{group}/{fusion}/{alignment}/seed{seed}.parquet.provenance.json",
    log:
        "<results>/logs/generate_group/{group}/{fusion}/{alignment}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/generate_group/{group}/{fusion}/{alignment}/seed{seed}.tsv"
    wildcard_constraints:
        group=one_of(settings.groups),
        fusion="sequential|parallel",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards: sum(settings.answering_mb(pair) for pair in members(settings, wildcards.group)),
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        scale=config["scale"],
        folders=lambda wildcards, input: [os.path.dirname(path) for path in input.fusers],
        methods=lambda wildcards: group_methods(settings, wildcards.group),
        benchmarks=lambda wildcards, input: benchmark_flags(first_pair(wildcards), input),
        prompts=lambda wildcards: prompts_of(first_pair(wildcards)),
        settings=flags(settings.generation),
    message:
        "Answering with all Sharers of {wildcards.group}, {wildcards.fusion}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}: {params.methods}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {wildcards.group:q} --receiver {input.receiver:q}"
        " --sharer {input.sharers:q} --fuser {params.folders:q} --fusion {wildcards.fusion:q} --recipe c2c"
        " --alignment {wildcards.alignment:q} --seed {wildcards.seed:q}"
        " --methods {params.methods:q} --prompts {params.prompts:q} --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"
