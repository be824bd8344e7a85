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
        methods=lambda wildcards: recipe_of(wildcards)["methods"].split(),
        benchmarks=benchmark_flags,
        prompts=prompts_of,
        settings=flags(settings.generation),
    message:
        "Answering with the fuser {wildcards.pair}, recipe {wildcards.recipe}, alignment {wildcards.alignment},"
        " seed {wildcards.seed}, as it was after step {wildcards.step}: {params.methods}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {wildcards.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharer:q}"
        " --fuser {input.kept:q}/step{wildcards.step:q} --recipe {wildcards.recipe:q}@{wildcards.step:q}"
        " --alignment {wildcards.alignment:q} --seed {wildcards.seed:q}"
        " --methods {params.methods:q} --prompts {params.prompts:q} --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"


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
