# Analyses of caches: what runs models (to records or tidy CSV), and what scores records. A kind that the config leaves
# out has no rule.


if "effective_rank" in analyses:

    rule measure_effective_rank:
        input:
            **analysed_files("effective_rank"),
        output:
            ranks="<results>/analysis/effective_rank/ranks.csv",
            provenance="<results>/analysis/effective_rank/ranks.csv.provenance.json",
        log:
            "<results>/logs/measure_effective_rank.log",
        benchmark:
            "<results>/benchmarks/measure_effective_rank.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=settings.answering_mb(analyses["effective_rank"]["pair"]),
            runtime=ANSWER_MINUTES,
            gpu=config["gpus_per_job"],
            tasks=1,
        params:
            tasks=TASKS,
            folder=subpath(input.fuser, parent=True),
            task=analyses["effective_rank"]["benchmark"],
            settings=analysed("effective_rank"),
        message:
            "Effective rank of the caches of Sharer and Receiver, and of the fused one"
        shell:
            "c2c analyse effective-rank --receiver {input.receiver:q} --sharer {input.sharer:q}"
            " --fuser {params.folder:q}"
            " --tasks {params.tasks:q} --benchmark {params.task:q}={input.questions:q} {params.settings:q}"
            " --output {output.ranks:q} > {log:q} 2>&1"


if "enrichment" in analyses:

    rule draw_world_shots:
        input:
            world="<results>/world/world.json",
        output:
            questions="<results>/data/shots/{benchmark}.jsonl",
            provenance="<results>/data/shots/{benchmark}.jsonl.provenance.json",
        log:
            "<results>/logs/draw_world_shots/{benchmark}.log",
        benchmark:
            "<results>/benchmarks/draw_world_shots/{benchmark}.tsv"
        wildcard_constraints:
            benchmark=one_of(settings.from_source("benchmarks", "world")),
        localrule: True
        conda:
            "../../environment.yml"
        message:
            "Questions about entities that the Receivers know, as examples"
        shell:
            "python -m benchmarks.world.shots --world {input.world:q} --benchmark {wildcards.benchmark:q}"
            " --output {output.questions:q} > {log:q} 2>&1"

    rule prepare_shots:
        output:
            questions="<results>/data/shots/{benchmark}.jsonl",
            provenance="<results>/data/shots/{benchmark}.jsonl.provenance.json",
        log:
            "<results>/logs/prepare_shots/{benchmark}.log",
        benchmark:
            "<results>/benchmarks/prepare_shots/{benchmark}.tsv"
        wildcard_constraints:
            benchmark=one_of(settings.data.with_shots),
        localrule: True
        conda:
            "../../environment.yml"
        params:
            source=lambda wildcards: flags(settings.data.shots(wildcards.benchmark)),
        message:
            "Preparing questions of {wildcards.benchmark} as examples: {params.source}"
        shell:
            "HF_HUB_OFFLINE=0 python -m benchmarks.prepare benchmark {params.source:q} --output {output.questions:q}"
            " > {log:q} 2>&1"

    rule enrich_caches:
        input:
            **analysed_files("enrichment"),
            examples=f"<results>/data/shots/{analyses['enrichment']['examples']}.jsonl",
        output:
            records="<results>/analysis/enrichment/records.parquet",
            orders="<results>/analysis/enrichment/orders.csv",
            provenance=collect(
                "<results>/analysis/enrichment/{file}.provenance.json",
                file=["records.parquet", "orders.csv"],
            ),
        log:
            "<results>/logs/enrich_caches.log",
        benchmark:
            "<results>/benchmarks/enrich_caches.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=settings.answering_mb(analyses["enrichment"]["pair"]),
            runtime=ANSWER_MINUTES,
            gpu=config["gpus_per_job"],
            tasks=1,
        params:
            tasks=TASKS,
            task=analyses["enrichment"]["benchmark"],
            settings=analysed("enrichment"),
        message:
            "Answering from caches that were made behind examples; progress: tail -f {log}"
        shell:
            "c2c analyse enrichment --receiver {input.receiver:q} --sharer {input.sharer:q}"
            " --examples {input.examples:q}"
            " --tasks {params.tasks:q} --benchmark {params.task:q}={input.questions:q} {params.settings:q}"
            " --output {output.records:q} --orders {output.orders:q} >> {log:q} 2>&1"


if "tsne" in analyses:

    rule place_caches:
        input:
            **analysed_files("tsne"),
        output:
            points="<results>/analysis/tsne/points.csv",
            clouds="<results>/analysis/tsne/clouds.csv",
            provenance=collect(
                "<results>/analysis/tsne/{file}.csv.provenance.json",
                file=["points", "clouds"],
            ),
        log:
            "<results>/logs/place_caches.log",
        benchmark:
            "<results>/benchmarks/place_caches.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=settings.answering_mb(analyses["tsne"]["pair"]),
            runtime=ANSWER_MINUTES,
            gpu=config["gpus_per_job"],
            tasks=1,
        params:
            tasks=TASKS,
            folder=subpath(input.fuser, parent=True),
            task=analyses["tsne"]["benchmark"],
            settings=analysed("tsne"),
        message:
            "Training the transformation oracle, and placing the caches of questions in a plane"
        shell:
            "c2c analyse tsne --receiver {input.receiver:q} --sharer {input.sharer:q} --fuser {params.folder:q}"
            " --tasks {params.tasks:q} --benchmark {params.task:q}={input.questions:q} {params.settings:q}"
            " --output {output.points:q} --clouds {output.clouds:q} > {log:q} 2>&1"


if "partial" in analyses:

    rule fuse_partially:
        input:
            **analysed_files("partial"),
        output:
            records="<results>/analysis/partial/records.parquet",
            provenance="<results>/analysis/partial/records.parquet.provenance.json",
        log:
            "<results>/logs/fuse_partially.log",
        benchmark:
            "<results>/benchmarks/fuse_partially.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=settings.answering_mb(analyses["partial"]["pair"]),
            runtime=ANSWER_MINUTES,
            gpu=config["gpus_per_job"],
            tasks=1,
        params:
            tasks=TASKS,
            folder=subpath(input.fuser, parent=True),
            task=analyses["partial"]["benchmark"],
            shares=analyses["partial"]["shares"],
            settings=analysed("partial"),
        message:
            "Answering with a share of each prompt fused; progress: tail -f {log}"
        shell:
            "c2c analyse partial --receiver {input.receiver:q} --sharer {input.sharer:q} --fuser {params.folder:q}"
            " --tasks {params.tasks:q} --benchmark {params.task:q}={input.questions:q} {params.settings:q}"
            " --shares {params.shares:q} --output {output.records:q} >> {log:q} 2>&1"


rule score_analysis:
    input:
        records="<results>/analysis/{kind}/records.parquet",
    output:
        accuracy="<results>/analysis/{kind}/accuracy.csv",
        provenance="<results>/analysis/{kind}/accuracy.csv.provenance.json",
    log:
        "<results>/logs/score_analysis/{kind}.log",
    benchmark:
        "<results>/benchmarks/score_analysis/{kind}.tsv"
    wildcard_constraints:
        kind="enrichment|partial",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        against=lambda wildcards: analyses[wildcards.kind].get("role", "c2c_deranged"),
        protocol=config["protocol"],
        failed_share=config["failed_share"],
    message:
        "Scoring the answers of the analysis {wildcards.kind}"
    shell:
        "c2c analyse accuracy --records {input.records:q} --against {params.against:q} --protocol {params.protocol:q}"
        " --failed-share {params.failed_share:q} --output {output.accuracy:q} > {log:q} 2>&1"
