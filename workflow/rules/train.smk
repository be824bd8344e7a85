# One fuser a job. Its checkpoints are no declared output, since those are deleted when a job fails: a job that was
# cut off goes on from the last of them, and the trainer keeps those of different settings apart.


rule train_fuser:
    input:
        receiver=receiver_manifest,
        sharer=sharer_manifest,
        train=lambda wildcards: f"<results>/data/training/{settings.pairs[wildcards.pair]['training_set']}/train.jsonl",
        validation=lambda wildcards: (
            f"<results>/data/training/{settings.pairs[wildcards.pair]['training_set']}/validation.jsonl"
        ),
    output:
        config="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/config.json",
        weights="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/model.safetensors",
        manifest="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/manifest.json",
        history="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/history.csv",
        gates="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/gates.csv",
        provenance="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}.provenance.json",
    log:
        "<results>/logs/train_fuser/{pair}/{recipe}/{alignment}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_fuser/{pair}/{recipe}/{alignment}/seed{seed}.tsv"
    retries: config["training"]["retries"]
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=training_memory,
        runtime=TRAIN_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        folder=subpath(output.config, parent=True),
        checkpoints=f"checkpoints/{config['scale']}",
        recipe=lambda wildcards: flags({k: recipe_of(wildcards)[k] for k in ("recipe", "variant", "sharer_cache")}),
        settings=flags(settings.training),
    message:
        "Training the fuser {wildcards.pair}, recipe {wildcards.recipe}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}; progress: tail -f {log}"
    shell:
        "c2c train --receiver {input.receiver} --sharer {input.sharer} {params.recipe}"
        " --alignment {wildcards.alignment} --seed {wildcards.seed} {params.settings}"
        " --data {input.train} --validation {input.validation}"
        " --checkpoints {params.checkpoints} --output {params.folder} >> {log} 2>&1"
