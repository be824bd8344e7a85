# Fusers that are kept before their last step: answers, what training them cost, accuracy by step (Table 12, Figure 13).


rule generate_kept:
    input:
        receiver=receiver_manifest,
        sharer=sharer_of_recipe,
        kept="<results>/fusers/{pair}/{recipe}/{alignment}/seed{seed}.steps",
        questions=benchmark_files,
        tasks=task_files,
    output:
        records="<results>/records/{pair}/{recipe}/{alignment}/seed{seed}.step{step}.parquet",
        provenance="<results>/records/{pair}/{recipe}/{alignment}/seed{seed}.step{step}.parquet.provenance.json",
    log:
        "<results>/logs/generate_kept/{pair}/{recipe}/{alignment}/seed{seed}.step{step}.log",
    benchmark:
        "<results>/benchmarks/generate_kept/{pair}/{recipe}/{alignment}/seed{seed}.step{step}.tsv"
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
        methods=lambda wildcards: recipe_of(wildcards)["methods"],
        benchmarks=benchmark_flags,
        prompts=prompts_of,
        settings=flags(settings.generation),
    message:
        "Answering with the fuser {wildcards.pair}, recipe {wildcards.recipe}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}, as it was after step {wildcards.step}: {params.methods}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale} --pair {wildcards.pair} --receiver {input.receiver} --sharer {input.sharer}"
        " --fuser {input.kept}/step{wildcards.step} --recipe {wildcards.recipe}@{wildcards.step}"
        " --alignment {wildcards.alignment} --seed {wildcards.seed}"
        " --methods {params.methods} --prompts {params.prompts} --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks} {params.settings} --output {output.records} >> {log} 2>&1"


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
        "python -m paper.training_cost --stamps {input.stamps} --output {output.cost} > {log} 2>&1"
