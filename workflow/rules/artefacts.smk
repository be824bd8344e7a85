# Tables (tidy .csv, and .tex and .md to be read) and figures (.pdf for the paper, .png), as paper/artefacts.yaml lists
# them. Each is also a target by its name and by its place in the paper: snakemake --profile smoke table4


rule tabulate:
    input:
        unpack(sources_of("table")),
        names=[source("paper/names.yaml"), *settings.data.titled_files],
        reference=source("paper/reference_values.csv"),
    output:
        csv=report(
            "<results>/tables/{table}.csv",
            caption="../report/artefact.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        tex="<results>/tables/{table}.tex",
        md="<results>/tables/{table}.md",
        provenance=collect("<results>/tables/{{table}}.{kind}.provenance.json", kind=["csv", "tex", "md"]),
    log:
        "<results>/logs/tabulate/{table}.log",
    benchmark:
        "<results>/benchmarks/tabulate/{table}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        module=entry_of("table", "module"),
        sources=flags_of("table"),
        stem=subpath(output.csv, strip_suffix=".csv"),
        title=entry_of("table", "title"),
        caption=entry_of("table", "caption"),
        places=entry_of("table", "places"),
        shown=command_of("table"),
    message:
        "Table: {params.title}"
    shell:
        "python -m {params.module:q} {params.sources:q} --output-stem {params.stem:q} > {log:q} 2>&1"


rule draw:
    input:
        unpack(sources_of("figure")),
        names=[source("paper/names.yaml"), *settings.data.titled_files],
        reference=source("paper/reference_values.csv"),
    output:
        pdf="<results>/figures/{figure}.pdf",
        png=report(
            "<results>/figures/{figure}.png",
            caption="../report/artefact.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        provenance=collect("<results>/figures/{{figure}}.{kind}.provenance.json", kind=["pdf", "png"]),
    log:
        "<results>/logs/draw/{figure}.log",
    benchmark:
        "<results>/benchmarks/draw/{figure}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        module=entry_of("figure", "module"),
        sources=flags_of("figure"),
        stem=subpath(output.pdf, strip_suffix=".pdf"),
        title=entry_of("figure", "title"),
        caption=entry_of("figure", "caption"),
        places=entry_of("figure", "places"),
        shown=command_of("figure"),
    message:
        "Figure: {params.title}"
    shell:
        "python -m {params.module:q} {params.sources:q} --output-stem {params.stem:q} > {log:q} 2>&1"


for target, artefacts in by_target(artefacts_of_scale()).items():

    rule:
        name:
            target
        input:
            [f"<results>/{file}" for artefact in artefacts for file in artefact.files],
        localrule: True
        message:
            "Made by name: {input}"
