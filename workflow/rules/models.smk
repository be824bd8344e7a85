# Models: pretrained in the knowledge-gap world, or fetched from a mirror or the hub.


rule build_world:
    output:
        world="<results>/world/world.json",
        free="<results>/data/benchmarks/knowledge_gap_free.jsonl",
        choice="<results>/data/benchmarks/knowledge_gap_choice.jsonl",
        train="<results>/data/training/knowledge_gap/train.jsonl",
        validation="<results>/data/training/knowledge_gap/validation.jsonl",
        provenance=[
            "<results>/world/world.json.provenance.json",
            "<results>/data/benchmarks/knowledge_gap_free.jsonl.provenance.json",
            "<results>/data/benchmarks/knowledge_gap_choice.jsonl.provenance.json",
            "<results>/data/training/knowledge_gap/train.jsonl.provenance.json",
            "<results>/data/training/knowledge_gap/validation.jsonl.provenance.json",
        ],
    log:
        "<results>/logs/build_world.log",
    benchmark:
        "<results>/benchmarks/build_world.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        settings=flags(settings.world),
        benchmarks=subpath(output.free, parent=True),
        training_set=subpath(output.train, parent=True),
    message:
        "Making a world of entities and facts, and the questions about them"
    shell:
        "python -m benchmarks.world.make {params.settings:q} --output {output.world:q}"
        " --benchmarks {params.benchmarks:q} --training-set {params.training_set:q} > {log:q} 2>&1"


rule pretrain_model:
    input:
        world="<results>/world/world.json",
    output:
        manifest="<results>/models/{model}.json",
        folder=directory("<results>/models/{model}"),
        provenance="<results>/models/{model}.json.provenance.json",
    log:
        "<results>/logs/pretrain_model/{model}.log",
    benchmark:
        "<results>/benchmarks/pretrain_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(settings.from_source("models", "world")),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        settings=lambda wildcards: flags(settings.pretraining(wildcards.model)),
    message:
        "Pretraining {wildcards.model} on the facts it is to know; progress: tail -f {log}"
    shell:
        "python -m benchmarks.world.pretrain --world {input.world:q} {params.settings:q}"
        " --output {output.folder:q} > {log:q} 2>&1"


rule fetch_model:
    output:
        manifest="<results>/models/{model}.json",
        provenance="<results>/models/{model}.json.provenance.json",
    log:
        "<results>/logs/fetch_model/{model}.log",
    benchmark:
        "<results>/benchmarks/fetch_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(settings.from_source("models", "hub")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        source=lambda wildcards: flags(settings.fetched_model(wildcards.model)),
    message:
        "Fetching a model, from a mirror in C2C_HUB_MIRROR or the hub: {params.source}"
    shell:
        "HF_HUB_OFFLINE=0 c2c fetch {params.source:q} --output {output.manifest:q} > {log:q} 2>&1"
