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
            folder=subpath(input.fuser, parent=True),
            task=analyses["effective_rank"]["benchmark"],
            settings=analysed("effective_rank"),
        message:
            "Effective rank of the caches of Sharer and Receiver, and of the fused one"
        shell:
            "c2c analyse effective-rank --receiver {input.receiver} --sharer {input.sharer} --fuser {params.folder}"
            " --tasks benchmarks/tasks --benchmark {params.task}={input.questions} {params.settings}"
            " --output {output.ranks} > {log} 2>&1"


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
            "python -m benchmarks.knowledge_gap.shots --world {input.world} --benchmark {wildcards.benchmark}"
            " --output {output.questions} > {log} 2>&1"

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
            "HF_HUB_OFFLINE=0 python -m benchmarks.prepare benchmark {params.source} --output {output.questions}"
            " > {log} 2>&1"

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
            task=analyses["enrichment"]["benchmark"],
            settings=analysed("enrichment"),
        message:
            "Answering from caches that were made behind examples; progress: tail -f {log}"
        shell:
            "c2c analyse enrichment --receiver {input.receiver} --sharer {input.sharer} --examples {input.examples}"
            " --tasks benchmarks/tasks --benchmark {params.task}={input.questions} {params.settings}"
            " --output {output.records} --orders {output.orders} >> {log} 2>&1"


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
            folder=subpath(input.fuser, parent=True),
            task=analyses["tsne"]["benchmark"],
            settings=analysed("tsne"),
        message:
            "Training the transformation oracle, and placing the caches of questions in a plane"
        shell:
            "c2c analyse tsne --receiver {input.receiver} --sharer {input.sharer} --fuser {params.folder}"
            " --tasks benchmarks/tasks --benchmark {params.task}={input.questions} {params.settings}"
            " --output {output.points} --clouds {output.clouds} > {log} 2>&1"


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
            folder=subpath(input.fuser, parent=True),
            task=analyses["partial"]["benchmark"],
            shares=" ".join(map(str, analyses["partial"]["shares"])),
            settings=analysed("partial"),
        message:
            "Answering with a share of each prompt fused; progress: tail -f {log}"
        shell:
            "c2c analyse partial --receiver {input.receiver} --sharer {input.sharer} --fuser {params.folder}"
            " --tasks benchmarks/tasks --benchmark {params.task}={input.questions} {params.settings}"
            " --shares {params.shares} --output {output.records} >> {log} 2>&1"


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
        "c2c analyse accuracy --records {input.records} --against {params.against} --protocol {params.protocol}"
        " --failed-share {params.failed_share}"
        " --output {output.accuracy} > {log} 2>&1"
