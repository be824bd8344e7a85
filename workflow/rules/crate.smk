# A finished run as an RO-Crate, to be deposited and cited. Target: crate


rule pack_crate:
    input:
        report="<results>/report.html",
        results=rules.results.input,
        records=all_records,
        citation=source("CITATION.cff"),
    output:
        crate="<results>/crate.zip",
        provenance="<results>/crate.zip.provenance.json",
    log:
        "<results>/logs/pack_crate.log",
    benchmark:
        "<results>/benchmarks/pack_crate.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        config=config_files(),
        results=subpath(input.report, parent=True),
    message:
        "RO-Crate of the run: {output.crate}"
    shell:
        "python -m workflow.crate --results {params.results:q} --configfile {params.config:q} --output {output.crate:q}"
        " > {log:q} 2>&1"


rule crate:
    input:
        "<results>/crate.zip",
    localrule: True
    message:
        "The run of scale {config[scale]} is packed"
