# A latent space that several models share: one training of all encoders and decoders (Table 14).


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
        prompts=lambda wildcards: settings.prompts(latent_pairs(settings, wildcards.latent)[0]),
        settings=lambda wildcards: flags({**latent_training(settings, wildcards.latent), **settings.processes}),
    message:
        "Training the latent space {wildcards.latent} of {params.pairs}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}; progress: tail -f {log}"
    shell:
        "c2c train-latent --pairs {params.pairs:q} --receivers {input.receivers:q} --sharers {input.sharers:q}"
        " --train {input.train:q} --validation {input.validation:q} --alignment {wildcards.alignment:q}"
        " --prompts {params.prompts:q} --seed {wildcards.seed:q} {params.settings:q}"
        " --checkpoints {params.checkpoints:q} --output {params.folder:q} >> {log:q} 2>&1"
