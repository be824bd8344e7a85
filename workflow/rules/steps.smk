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


rule tabulate_table12:
    input:
        records=all_records,
        cost="<results>/training_cost.csv",
        reference="paper/reference_values.csv",
        names="paper/names.yaml",
    output:
        csv=report(
            "<results>/tables/table12.csv",
            caption="../report/table12.rst",
            category="Tables",
            labels={"table": "training cost and accuracy by step"},
        ),
        tex="<results>/tables/table12.tex",
        md="<results>/tables/table12.md",
        provenance=collect("<results>/tables/table12.{kind}.provenance.json", kind=["csv", "tex", "md"]),
    log:
        "<results>/logs/tabulate_table12.log",
    benchmark:
        "<results>/benchmarks/tabulate_table12.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        protocol=config["protocol"],
        stem=subpath(output.csv, strip_suffix=".csv"),
    message:
        "Table: training cost and accuracy by step"
    shell:
        "python -m paper.tables.table12 --records {input.records} --protocol {params.protocol} --cost {input.cost}"
        " --reference {input.reference} --output-stem {params.stem} > {log} 2>&1"


rule draw_accuracy_by_steps:
    input:
        table="<results>/tables/table12.csv",
        names="paper/names.yaml",
    output:
        pdf="<results>/figures/accuracy_by_steps.pdf",
        png=report(
            "<results>/figures/accuracy_by_steps.png",
            caption="../report/accuracy_by_steps.rst",
            category="Figures",
            labels={"figure": "accuracy by steps"},
        ),
        provenance=collect("<results>/figures/accuracy_by_steps.{kind}.provenance.json", kind=["pdf", "png"]),
    log:
        "<results>/logs/draw_accuracy_by_steps.log",
    benchmark:
        "<results>/benchmarks/draw_accuracy_by_steps.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        stem=subpath(output.pdf, strip_suffix=".pdf"),
    message:
        "Figure: accuracy by steps, with the controls"
    shell:
        "python -m paper.figures.accuracy_by_steps --table {input.table} --output-stem {params.stem} > {log} 2>&1"
