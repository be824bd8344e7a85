# A latent space that several models share: one training of all encoders and decoders, then answers by each pair, and by
# each Receiver with all of its Sharers (Table 14).


rule train_latent:
    input:
        receivers=latent_models("receiver"),
        sharers=latent_models("sharer"),
        train=latent_sets("train"),
        validation=latent_sets("validation"),
    output:
        pairs=directory("<results>/latent/{latent}/{alignment}/seed{seed}/pairs"),
        history="<results>/latent/{latent}/{alignment}/seed{seed}/history.csv",
        order="<results>/latent/{latent}/{alignment}/seed{seed}/order.parquet",
        provenance="<results>/latent/{latent}/{alignment}/seed{seed}.provenance.json",
    log:
        "<results>/logs/train_latent/{latent}/{alignment}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_latent/{latent}/{alignment}/seed{seed}.tsv"
    wildcard_constraints:
        latent=one_of(latent_names(settings)),
    retries: config["training"]["retries"]
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: grown(latent_memory_mb(settings, wildcards.latent), attempt),
        runtime=TRAIN_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        pairs=lambda wildcards: latent_pairs(settings, wildcards.latent),
        folder=subpath(output.history, parent=True),
        checkpoints=f"checkpoints/{config['scale']}",
        prompts=lambda wildcards: prompts_of(first_of(wildcards)),
        settings=lambda wildcards: flags({**latent_training(settings, wildcards.latent), **settings.processes}),
    message:
        "Training the latent space {wildcards.latent} of {params.pairs}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}; progress: tail -f {log}"
    shell:
        "c2c train-latent --pairs {params.pairs:q} --receivers {input.receivers:q} --sharers {input.sharers:q}"
        " --train {input.train:q} --validation {input.validation:q} --alignment {wildcards.alignment:q}"
        " --prompts {params.prompts:q} --seed {wildcards.seed:q} {params.settings:q}"
        " --checkpoints {params.checkpoints:q} --output {params.folder:q} >> {log:q} 2>&1"


rule generate_latent:
    input:
        receiver=receiver_manifest,
        sharer=sharer_manifest,
        fusers="<results>/latent/{latent}/{alignment}/seed{seed}/pairs",
        questions=benchmark_files,
        tasks=task_files,
    output:
        records="<results>/records/latent/{latent}/pairs/{pair}/{alignment}/seed{seed}.parquet",
        provenance="<results>/records/latent/{latent}/pairs/{pair}/{alignment}/seed{seed}.parquet.provenance.json",
    log:
        "<results>/logs/generate_latent/{latent}/pairs/{pair}/{alignment}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/generate_latent/{latent}/pairs/{pair}/{alignment}/seed{seed}.tsv"
    wildcard_constraints:
        latent=one_of(latent_names(settings)),
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
        methods=LATENT_METHODS,
        benchmarks=benchmark_flags,
        prompts=prompts_of,
        settings=flags(settings.generation),
    message:
        "Answering with {wildcards.pair} through the latent space {wildcards.latent}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}: {params.methods}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {wildcards.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharer:q}"
        " --fuser {input.fusers:q}/{wildcards.pair:q} --recipe latent --alignment {wildcards.alignment:q}"
        " --seed {wildcards.seed:q}"
        " --methods {params.methods:q} --prompts {params.prompts:q} --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"


rule generate_latent_group:
    input:
        receiver=lambda wildcards: receiver_manifest(first_of(wildcards)),
        sharers=lambda wildcards: [
            f"<results>/models/{settings.pairs[pair]['sharer']}.json" for pair in members(settings, wildcards.group)
        ],
        fusers="<results>/latent/{latent}/{alignment}/seed{seed}/pairs",
        questions=lambda wildcards: benchmark_files(first_of(wildcards)),
        tasks=lambda wildcards: task_files(first_of(wildcards)),
    output:
        records="<results>/records/latent/{latent}/groups/{group}/{fusion}/{alignment}/seed{seed}.parquet",
        provenance="<results>/records/latent/{latent}/groups/{group}/{fusion}/{alignment}/seed{seed}.parquet.provenance.json",
    log:
        "<results>/logs/generate_latent_group/{latent}/groups/{group}/{fusion}/{alignment}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/generate_latent_group/{latent}/groups/{group}/{fusion}/{alignment}/seed{seed}.tsv"
    wildcard_constraints:
        latent=one_of(latent_names(settings)),
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
        folders=lambda wildcards, input: [f"{input.fusers}/{pair}" for pair in members(settings, wildcards.group)],
        methods=LATENT_METHODS,
        benchmarks=lambda wildcards, input: benchmark_flags(first_of(wildcards), input),
        prompts=lambda wildcards: prompts_of(first_of(wildcards)),
        settings=flags(settings.generation),
    message:
        "Answering with all Sharers of {wildcards.group} through the latent space {wildcards.latent},"
        " {wildcards.fusion}, seed {wildcards.seed}: {params.methods}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {wildcards.group:q} --receiver {input.receiver:q}"
        " --sharer {input.sharers:q} --fuser {params.folders:q} --fusion {wildcards.fusion:q} --recipe latent"
        " --alignment {wildcards.alignment:q} --seed {wildcards.seed:q}"
        " --methods {params.methods:q} --prompts {params.prompts:q} --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"
