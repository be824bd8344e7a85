# The paper as PDF, and the report: all results in one HTML file, with a caption for each artefact.


rule build_paper:
    input:
        scores="<results>/scores.csv",
        stamps=lambda wildcards: [f"{path}.provenance.json" for path in all_records(wildcards)],
        latency=["<results>/latency.csv"] if config["latency"] else [],
        claims="<results>/claims.json",
        claims_time="<results>/claims_time.json",
        tables=collect("<results>/tables/{table}.csv", table=config["artefacts"]["tables"]),
        figures=collect("<results>/figures/{figure}.pdf", figure=config["artefacts"]["figures"]),
        fusers=collect(
            "<results>/fusers/{run}/{file}",
            run=fuser_runs(),
            file=["config.json", "history.csv"],
        ),
        clouds=["<results>/analysis/tsne/clouds.csv"] if "tsne" in config["artefacts"]["figures"] else [],
        world=["<results>/world/world.json"] if "world" in config else [],
        text=paper_sources(),
    output:
        pdf=report(
            "<results>/paper/paper.pdf",
            caption="../report/paper.rst",
            category="Paper",
            labels={"what": "paper"},
        ),
        provenance="<results>/paper/paper.pdf.provenance.json",
    log:
        "<results>/logs/build_paper.log",
    benchmark:
        "<results>/benchmarks/build_paper.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        results=subpath(input.scores, parent=True),
    message:
        "Setting the paper from tables, figures and verdicts"
    shell:
        "python -m paper.build --results {params.results:q} --output {output.pdf:q} > {log:q} 2>&1"


rule results:
    input:
        collect("<results>/{file}", file=result_files()),
        collect("<results>/{file}.provenance.json", file=result_files()),
    localrule: True
    message:
        "All results of scale {config[scale]} are made"


rule write_report:
    input:
        results=rules.results.input,
        captions=report_captions(),
    output:
        report="<results>/report.html",
        provenance="<results>/report.html.provenance.json",
    log:
        "<results>/logs/write_report.log",
    benchmark:
        "<results>/benchmarks/write_report.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        config=config_files(),
    message:
        "Report: {output.report}"
    shell:
        "python -m workflow.write_report --configfile {params.config:q} --inputs {input.results:q} {input.captions:q}"
        " --output {output.report:q} > {log:q} 2>&1"
