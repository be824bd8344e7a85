# Answers, one record a question and method. Scoring is another rule, so that a new score needs no new answer.


rule generate_baselines:
    input:
        receiver=receiver_manifest,
        sharer=sharer_manifest,
        questions=benchmark_files,
        tasks=task_files,
        router=router_files,
    output:
        records="<results>/records/{pair}/baselines.parquet",
        provenance="<results>/records/{pair}/baselines.parquet.provenance.json",
    log:
        "<results>/logs/generate_baselines/{pair}.log",
    benchmark:
        "<results>/benchmarks/generate_baselines/{pair}.tsv"
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
        methods=lambda wildcards: settings.baselines(wildcards.pair),
        benchmarks=benchmark_flags,
        prompts=prompts_of,
        router=router_flag,
        settings=flags(settings.generation),
    message:
        "Answering with the single models of {wildcards.pair}, text to text, and routing; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {wildcards.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharer:q}"
        " --methods {params.methods:q} --prompts {params.prompts:q} {params.router:q} --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"


rule generate_fused:
    input:
        receiver=receiver_manifest,
        sharer=sharer_of_recipe,
        fuser="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/manifest.json",
        weights="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/model.safetensors",
        config="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}/config.json",
        questions=benchmark_files,
        tasks=task_files,
    output:
        records="<results>/records/{pair}/{recipe}/{alignment}/seed{seed}.parquet",
        provenance="<results>/records/{pair}/{recipe}/{alignment}/seed{seed}.parquet.provenance.json",
    log:
        "<results>/logs/generate_fused/{pair}/{recipe}/{alignment}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/generate_fused/{pair}/{recipe}/{alignment}/seed{seed}.tsv"
    wildcard_constraints:
        pair=one_of(settings.pairs),
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
        folder=subpath(input.fuser, parent=True),
        methods=lambda wildcards: recipe_of(wildcards)["methods"].split(),
        benchmarks=benchmark_flags,
        prompts=prompts_of,
        settings=flags(settings.generation),
    message:
        "Answering with the fuser {wildcards.pair}, recipe {wildcards.recipe}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}: {params.methods}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {wildcards.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharer:q}"
        " --fuser {params.folder:q} --recipe {wildcards.recipe:q} --alignment {wildcards.alignment:q}"
        " --seed {wildcards.seed:q}"
        " --methods {params.methods:q} --prompts {params.prompts:q} --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"
