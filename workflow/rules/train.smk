# A training set is tokenised once for a pair, alignment and length, and one fuser is trained a job, or all that
# training.frozen puts together. Where it says stored, the frozen models run once, before; shards that are complete outlive
# a job that fails, since the index alone is a declared output. The checkpoints of a training
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


rule store_states:
    input:
        receiver=lambda wildcards: f"<results>/models/{pair_of_tokens(wildcards)['receiver']}.json",
        sharer=sharer_of_tokens,
        train="<results>/data/tokenised/{tokens}/{alignment}/{length}/train.parquet",
        validation="<results>/data/tokenised/{tokens}/{alignment}/{length}/validation.parquet",
    output:
        index="<results>/states/{tokens}/{alignment}/{length}/{layers}/index.parquet",
        provenance="<results>/states/{tokens}/{alignment}/{length}/{layers}.provenance.json",
    log:
        "<results>/logs/store_states/{tokens}/{alignment}/{length}/{layers}.log",
    benchmark:
        "<results>/benchmarks/store_states/{tokens}/{alignment}/{length}/{layers}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=storing_memory,
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"] and 1,
        tasks=1,
    params:
        folder=subpath(output.index, parent=True),
        prompts=lambda wildcards: settings.prompts(wildcards.tokens.removesuffix(OWN_TOKENS)),
        dtype=config["dtype"],
        limit=config["training"]["states_gb"],
    message:
        "Storing what the frozen models hold of the training set of {wildcards.tokens}; progress: tail -f {log}"
    shell:
        "c2c store-states --receiver {input.receiver:q} --sharer {input.sharer:q} --dtype {params.dtype:q}"
        " --alignment {wildcards.alignment:q} --prompts {params.prompts:q} --max-length {wildcards.length:q}"
        " --layer-alignment {wildcards.layers:q} --tokenised {input.train:q} {input.validation:q}"
        " --limit-gb {params.limit:q} --output {params.folder:q} >> {log:q} 2>&1"


rule train_fuser:
    input:
        receiver=receiver_manifest,
        sharer=sharer_of_recipe,
        train=tokenised_set("train"),
        validation=tokenised_set("validation"),
        states=states_of_run,
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
        settings=lambda wildcards: training_flags(wildcards.pair, wildcards.recipe, wildcards.alignment),
        states=states_flag,
    message:
        "Training the fuser {wildcards.pair}, recipe {wildcards.recipe}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}; progress: tail -f {log}"
    shell:
        "c2c train --receiver {input.receiver:q} --sharer {input.sharer:q} {params.recipe:q}"
        " --alignment {wildcards.alignment:q} --prompts {params.prompts:q}"
        " --seed {wildcards.seed:q} {params.settings:q}"
        " --tokenised {input.train:q} {input.validation:q} {params.states:q}"
        " --checkpoints {params.checkpoints:q} --output {params.folder:q} --kept {output.kept:q} >> {log:q} 2>&1"


rule train_together:
    input:
        receiver=lambda wildcards: f"<results>/models/{pair_of_tokens(wildcards)['receiver']}.json",
        sharer=sharer_of_tokens,
        train="<results>/data/tokenised/{tokens}/{alignment}/{length}/train.parquet",
        validation="<results>/data/tokenised/{tokens}/{alignment}/{length}/validation.parquet",
    output:
        folder=directory("<results>/together/{tokens}/{alignment}/{length}"),
    log:
        "<results>/logs/train_together/{tokens}/{alignment}/{length}.log",
    benchmark:
        "<results>/benchmarks/train_together/{tokens}/{alignment}/{length}.tsv"
    retries: config["training"]["retries"]
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=together_memory,
        runtime=TRAIN_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        checkpoints=f"checkpoints/{config['scale']}",
        prompts=lambda wildcards: settings.prompts(wildcards.tokens.removesuffix(OWN_TOKENS)),
        settings=flags({"dtype": config["dtype"], **settings.processes}),
        runs=run_flags,
    message:
        "Training the fusers of {wildcards.tokens}, alignment {wildcards.alignment}, together; progress: tail -f {log}"
    shell:
        "c2c train-together --receiver {input.receiver:q} --sharer {input.sharer:q} --alignment {wildcards.alignment:q}"
        " --prompts {params.prompts:q} {params.settings:q} --tokenised {input.train:q} {input.validation:q}"
        " --checkpoints {params.checkpoints:q} --runs {params.runs:q} >> {log:q} 2>&1"


# The fusers that one job has trained, each at the place that it has when it is trained alone.
rule place_fuser:
    input:
        together=lambda wildcards: f"<results>/together/{together_folder(wildcards.run)}",
    output:
        config="<results>/fusers/{run}/config.json",
        weights="<results>/fusers/{run}/model.safetensors",
        manifest="<results>/fusers/{run}/manifest.json",
        history="<results>/fusers/{run}/history.csv",
        gates="<results>/fusers/{run}/gates.csv",
        order="<results>/fusers/{run}/order.parquet",
        kept=directory("<results>/fusers/{run}.steps"),
        provenance="<results>/fusers/{run}.provenance.json",
    log:
        "<results>/logs/place_fuser/{run}.log",
    benchmark:
        "<results>/benchmarks/place_fuser/{run}.tsv"
    wildcard_constraints:
        run=one_of([run.path for runs in settings.trained_together.values() for run in runs]),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        source=lambda wildcards, input: os.path.join(input.together, *wildcards.run.split("/")[1::2]),
        output=subpath(output.config, parent=True),
    message:
        "Placing the fuser {wildcards.run}, which was trained together with others"
    shell:
        "python -m workflow.place_fuser --source {params.source:q} --output {params.output:q} > {log:q} 2>&1"


ruleorder: place_fuser > train_fuser


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
