# Released Fusers: fetched instead of trained; they answer as trained ones do. Target: snakemake --profile slurm released


rule fetch_fuser:
    output:
        manifest="<results>/released/{released}.json",
        provenance="<results>/released/{released}.json.provenance.json",
    log:
        "<results>/logs/fetch_fuser/{released}.log",
    benchmark:
        "<results>/benchmarks/fetch_fuser/{released}.tsv"
    wildcard_constraints:
        released=one_of(settings.released),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        source=lambda wildcards: flags(released_source(settings, wildcards.released)),
    message:
        "Fetching released Fusers, from a mirror in C2C_HUB_MIRROR or the hub: {params.source}"
    shell:
        "HF_HUB_OFFLINE=0 c2c fetch-fuser {params.source:q} --output {output.manifest:q} > {log:q} 2>&1"
