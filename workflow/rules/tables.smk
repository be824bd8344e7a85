# Tables: each as tidy .csv, and as .tex and .md to be read. All are made from the records or from latency.csv.


rule tabulate_main:
    input:
        records=all_records,
        latency=["<results>/latency.csv"] if config["latency"] else [],
        names="paper/names.yaml",
    output:
        csv=report(
            "<results>/tables/main.csv",
            caption="../report/main.rst",
            category="Tables",
            labels={"table": "main"},
        ),
        tex="<results>/tables/main.tex",
        md="<results>/tables/main.md",
        provenance=collect("<results>/tables/main.{kind}.provenance.json", kind=["csv", "tex", "md"]),
    log:
        "<results>/logs/tabulate_main.log",
    benchmark:
        "<results>/benchmarks/tabulate_main.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        latency=optional_flag("--latency", "latency"),
        protocol=config["protocol"],
        stem=subpath(output.csv, strip_suffix=".csv"),
    message:
        "Table: accuracy and time of every method"
    shell:
        "python -m paper.tables.main --records {input.records} --protocol {params.protocol} {params.latency}"
        " --output-stem {params.stem} > {log} 2>&1"


rule tabulate_gains:
    input:
        records=all_records,
        names="paper/names.yaml",
    output:
        csv=report(
            "<results>/tables/gains.csv",
            caption="../report/gains.rst",
            category="Tables",
            labels={"table": "gains"},
        ),
        tex="<results>/tables/gains.tex",
        md="<results>/tables/gains.md",
        provenance=collect("<results>/tables/gains.{kind}.provenance.json", kind=["csv", "tex", "md"]),
    log:
        "<results>/logs/tabulate_gains.log",
    benchmark:
        "<results>/benchmarks/tabulate_gains.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        protocol=config["protocol"],
        stem=subpath(output.csv, strip_suffix=".csv"),
    message:
        "Table: gains: system, pairing, communication, adaptation"
    shell:
        "python -m paper.tables.gains --records {input.records} --protocol {params.protocol} --output-stem {params.stem} > {log} 2>&1"


rule tabulate_latency:
    input:
        latency="<results>/latency.csv",
        names="paper/names.yaml",
    output:
        csv=report(
            "<results>/tables/latency.csv",
            caption="../report/latency_table.rst",
            category="Tables",
            labels={"table": "latency"},
        ),
        tex="<results>/tables/latency.tex",
        md="<results>/tables/latency.md",
        provenance=collect("<results>/tables/latency.{kind}.provenance.json", kind=["csv", "tex", "md"]),
    log:
        "<results>/logs/tabulate_latency.log",
    benchmark:
        "<results>/benchmarks/tabulate_latency.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        stem=subpath(output.csv, strip_suffix=".csv"),
    message:
        "Table: latency split into its phases"
    shell:
        "python -m paper.tables.latency --latency {input.latency} --output-stem {params.stem} > {log} 2>&1"


rule tabulate_ablation:
    input:
        records=all_records,
        names="paper/names.yaml",
    output:
        csv=report(
            "<results>/tables/ablation.csv",
            caption="../report/ablation.rst",
            category="Tables",
            labels={"table": "ablation"},
        ),
        tex="<results>/tables/ablation.tex",
        md="<results>/tables/ablation.md",
        provenance=collect("<results>/tables/ablation.{kind}.provenance.json", kind=["csv", "tex", "md"]),
    log:
        "<results>/logs/tabulate_ablation.log",
    benchmark:
        "<results>/benchmarks/tabulate_ablation.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        protocol=config["protocol"],
        stem=subpath(output.csv, strip_suffix=".csv"),
    message:
        "Table: ablation: what each part of the Fuser adds"
    shell:
        "python -m paper.tables.ablation --records {input.records} --protocol {params.protocol} --output-stem {params.stem} > {log} 2>&1"


rule tabulate_alignment:
    input:
        records=all_records,
        names="paper/names.yaml",
    output:
        csv=report(
            "<results>/tables/alignment.csv",
            caption="../report/alignment.rst",
            category="Tables",
            labels={"table": "alignment"},
        ),
        tex="<results>/tables/alignment.tex",
        md="<results>/tables/alignment.md",
        provenance=collect("<results>/tables/alignment.{kind}.provenance.json", kind=["csv", "tex", "md"]),
    log:
        "<results>/logs/tabulate_alignment.log",
    benchmark:
        "<results>/benchmarks/tabulate_alignment.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        protocol=config["protocol"],
        stem=subpath(output.csv, strip_suffix=".csv"),
    message:
        "Table: comparison of token alignments"
    shell:
        "python -m paper.tables.alignment --records {input.records} --protocol {params.protocol} --output-stem {params.stem} > {log} 2>&1"
