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
