# The Receiver itself, fine-tuned as a whole on the training set of a pair (Table 6).


rule train_single:
    input:
        receiver=receiver_manifest,
        sharer=sharer_manifest,
        train=lambda wildcards: tokenised_for(wildcards, "c2c", "train"),
        validation=lambda wildcards: tokenised_for(wildcards, "c2c", "validation"),
    output:
        manifest="<results>/single/{pair}/{alignment}/seed{seed}.json",
        folder=directory("<results>/single/{pair}/{alignment}/seed{seed}"),
        provenance="<results>/single/{pair}/{alignment}/seed{seed}.json.provenance.json",
    log:
        "<results>/logs/train_single/{pair}/{alignment}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_single/{pair}/{alignment}/seed{seed}.tsv"
    retries: config["training"]["retries"]
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: grown(settings.single_mb(wildcards.pair, wildcards.alignment), attempt),
        runtime=TRAIN_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        checkpoints=f"checkpoints/{config['scale']}",
        prompts=prompts_of,
        settings=lambda wildcards: flags(settings.training_of(wildcards.pair, "c2c", wildcards.alignment)),
    message:
        "Fine-tuning the Receiver of {wildcards.pair} itself, seed {wildcards.seed}; progress: tail -f {log}"
    shell:
        "c2c train-single --receiver {input.receiver:q} --sharer {input.sharer:q} --alignment {wildcards.alignment:q}"
        " --prompts {params.prompts:q} --seed {wildcards.seed:q} {params.settings:q}"
        " --tokenised {input.train:q} {input.validation:q}"
        " --checkpoints {params.checkpoints:q} --output {output.manifest:q} >> {log:q} 2>&1"


rule generate_single:
    input:
        receiver="<results>/single/{pair}/{alignment}/seed{seed}.json",
        sharer=sharer_manifest,
        questions=benchmark_files,
        tasks=task_files,
    output:
        records="<results>/records/single/{pair}/{alignment}/seed{seed}.parquet",
        provenance="<results>/records/single/{pair}/{alignment}/seed{seed}.parquet.provenance.json",
    log:
        "<results>/logs/generate_single/{pair}/{alignment}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/generate_single/{pair}/{alignment}/seed{seed}.tsv"
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
        benchmarks=benchmark_flags,
        prompts=prompts_of,
        settings=flags(settings.generation),
    message:
        "Answering with the fine-tuned Receiver of {wildcards.pair}, seed {wildcards.seed}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {wildcards.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharer:q}"
        " --recipe single --seed {wildcards.seed:q} --methods receiver --prompts {params.prompts:q}"
        " --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"
