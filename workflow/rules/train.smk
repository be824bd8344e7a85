# A training set is tokenised once for a pair, alignment and length, and one fuser is trained a job. The checkpoints of a training
# are no declared output, since those are deleted when a job fails: a job that was cut off resumes from the last of
# them, and the trainer keeps those of different settings apart.


rule tokenise_training_set:
    input:
        receiver=lambda wildcards: f"<results>/models/{pair_of_tokens(wildcards)['receiver']}.json",
        sharer=sharer_of_tokens,
        lines=lambda wildcards: training_lines(wildcards.part)(wildcards),
    output:
        tokenised="<results>/data/tokenised/{tokens}/{alignment}/{length}/{part}.parquet",
        provenance="<results>/data/tokenised/{tokens}/{alignment}/{length}/{part}.parquet.provenance.json",
    log:
        "<results>/logs/tokenise_training_set/{tokens}/{alignment}/{length}/{part}.log",
    benchmark:
        "<results>/benchmarks/tokenise_training_set/{tokens}/{alignment}/{length}/{part}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=ANSWER_MINUTES,
    params:
        prompts=lambda wildcards: settings.prompts(wildcards.tokens.removesuffix(OWN_TOKENS)),
    message:
        "Tokenising the {wildcards.part} set of {wildcards.tokens}, alignment {wildcards.alignment}, up to {wildcards.length}"
        " tokens; progress: tail -f {log}"
    shell:
        "c2c tokenise --receiver {input.receiver:q} --sharer {input.sharer:q} --alignment {wildcards.alignment:q}"
        " --prompts {params.prompts:q} --max-length {wildcards.length:q} --data {input.lines:q}"
        " --output {output.tokenised:q} > {log:q} 2>&1"


rule train_fuser:
    input:
        receiver=receiver_manifest,
        sharer=sharer_of_recipe,
        train=tokenised_set("train"),
        validation=tokenised_set("validation"),
    output:
        config="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/config.json",
        weights="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/model.safetensors",
        manifest="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/manifest.json",
        history="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/history.csv",
        gates="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/gates.csv",
        order="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/order.parquet",
        kept=directory("<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}.steps"),
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
        prompts=lambda wildcards: settings.prompts(wildcards.pair),
        settings=lambda wildcards: flags(
            {**settings.training_of(wildcards.pair, wildcards.recipe, wildcards.alignment), **settings.processes}
        ),
    message:
        "Training the fuser {wildcards.pair}, recipe {wildcards.recipe}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}; progress: tail -f {log}"
    shell:
        "c2c train --receiver {input.receiver:q} --sharer {input.sharer:q} {params.recipe:q}"
        " --alignment {wildcards.alignment:q} --prompts {params.prompts:q}"
        " --seed {wildcards.seed:q} {params.settings:q}"
        " --tokenised {input.train:q} {input.validation:q}"
        " --checkpoints {params.checkpoints:q} --output {params.folder:q} --kept {output.kept:q} >> {log:q} 2>&1"


rule collect_training_cost:
    input:
        stamps=collect("<results>/fusers/{run}.provenance.json", run=fuser_runs()),
    output:
        cost="<results>/training_cost.csv",
        provenance="<results>/training_cost.csv.provenance.json",
    log:
        "<results>/logs/collect_training_cost.log",
    benchmark:
        "<results>/benchmarks/collect_training_cost.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    message:
        "Hours of each training, by step"
    shell:
        "python -m paper.training_cost --stamps {input.stamps:q} --output {output.cost:q} > {log:q} 2>&1"
