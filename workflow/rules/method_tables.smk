# Tables of what is asked beyond one trained pair; all are made from the records.


rule tabulate_methods:
    input:
        records=all_records,
        names="paper/names.yaml",
    output:
        csv=report(
            "<results>/tables/{table}.csv",
            caption="../report/methods.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        tex="<results>/tables/{table}.tex",
        md="<results>/tables/{table}.md",
        provenance=collect("<results>/tables/{{table}}.{kind}.provenance.json", kind=["csv", "tex", "md"]),
    log:
        "<results>/logs/tabulate_methods/{table}.log",
    benchmark:
        "<results>/benchmarks/tabulate_methods/{table}.tsv"
    wildcard_constraints:
        table="table6|table13|table15",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        protocol=config["protocol"],
        stem=subpath(output.csv, strip_suffix=".csv"),
    message:
        "Table: {wildcards.table} of the paper"
    shell:
        "python -m paper.tables.{wildcards.table} --records {input.records} --protocol {params.protocol}"
        " --output-stem {params.stem} > {log} 2>&1"
