# Figures: each as .pdf for the paper and as .png.


rule draw_gains:
    input:
        table="<results>/tables/gains.csv",
        names="paper/names.yaml",
    output:
        pdf="<results>/figures/gains.pdf",
        png=report(
            "<results>/figures/gains.png",
            caption="../report/gains_figure.rst",
            category="Figures",
            labels={"figure": "the four gains"},
        ),
        provenance=collect("<results>/figures/gains.{kind}.provenance.json", kind=["pdf", "png"]),
    log:
        "<results>/logs/draw_gains.log",
    benchmark:
        "<results>/benchmarks/draw_gains.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        stem=subpath(output.pdf, strip_suffix=".pdf"),
    message:
        "Figure: the four gains"
    shell:
        "python -m paper.figures.gains --table {input.table} --output-stem {params.stem} > {log} 2>&1"


rule draw_accuracy:
    input:
        table="<results>/tables/main.csv",
        names="paper/names.yaml",
    output:
        pdf="<results>/figures/accuracy.pdf",
        png=report(
            "<results>/figures/accuracy.png",
            caption="../report/accuracy.rst",
            category="Figures",
            labels={"figure": "accuracy by method"},
        ),
        provenance=collect("<results>/figures/accuracy.{kind}.provenance.json", kind=["pdf", "png"]),
    log:
        "<results>/logs/draw_accuracy.log",
    benchmark:
        "<results>/benchmarks/draw_accuracy.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        stem=subpath(output.pdf, strip_suffix=".pdf"),
    message:
        "Figure: accuracy by method"
    shell:
        "python -m paper.figures.accuracy --table {input.table} --output-stem {params.stem} > {log} 2>&1"


rule draw_accuracy_latency:
    input:
        table="<results>/tables/main.csv",
        names="paper/names.yaml",
    output:
        pdf="<results>/figures/accuracy_latency.pdf",
        png=report(
            "<results>/figures/accuracy_latency.png",
            caption="../report/accuracy_latency.rst",
            category="Figures",
            labels={"figure": "accuracy against latency"},
        ),
        provenance=collect("<results>/figures/accuracy_latency.{kind}.provenance.json", kind=["pdf", "png"]),
    log:
        "<results>/logs/draw_accuracy_latency.log",
    benchmark:
        "<results>/benchmarks/draw_accuracy_latency.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        stem=subpath(output.pdf, strip_suffix=".pdf"),
    message:
        "Figure: accuracy against latency"
    shell:
        "python -m paper.figures.accuracy_latency --table {input.table} --output-stem {params.stem} > {log} 2>&1"


rule draw_gates:
    input:
        gates=collect("<results>/fusers/{run}/gates.csv", run=fuser_runs()),
    output:
        pdf="<results>/figures/gates.pdf",
        png=report(
            "<results>/figures/gates.png",
            caption="../report/gates.rst",
            category="Figures",
            labels={"figure": "gates and dynamic weights by layer"},
        ),
        provenance=collect("<results>/figures/gates.{kind}.provenance.json", kind=["pdf", "png"]),
    log:
        "<results>/logs/draw_gates.log",
    benchmark:
        "<results>/benchmarks/draw_gates.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        folders=fuser_folders,
        stem=subpath(output.pdf, strip_suffix=".pdf"),
    message:
        "Figure: gates and dynamic weights by layer"
    shell:
        "python -m paper.figures.gates --fusers {params.folders} --output-stem {params.stem} > {log} 2>&1"


rule draw_training:
    input:
        histories=collect("<results>/fusers/{run}/history.csv", run=fuser_runs()),
        configs=collect("<results>/fusers/{run}/config.json", run=fuser_runs()),
        reference="paper/reference_values.csv",
    output:
        pdf="<results>/figures/training.pdf",
        png=report(
            "<results>/figures/training.png",
            caption="../report/training.rst",
            category="Figures",
            labels={"figure": "training curves"},
        ),
        provenance=collect("<results>/figures/training.{kind}.provenance.json", kind=["pdf", "png"]),
    log:
        "<results>/logs/draw_training.log",
    benchmark:
        "<results>/benchmarks/draw_training.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        folders=lambda wildcards, input: fuser_folders(wildcards, input.histories),
        stem=subpath(output.pdf, strip_suffix=".pdf"),
    message:
        "Figure: training curves"
    shell:
        "python -m paper.figures.training --fusers {params.folders} --reference {input.reference}"
        " --output-stem {params.stem} > {log} 2>&1"
