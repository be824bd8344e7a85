# Two agents (Table 15): the Sharer analyses the problem, the Receiver solves it; by text, and by text and cache.


rule generate_agents:
    input:
        receiver=receiver_manifest,
        sharer=sharer_manifest,
        fuser=agent_fuser("manifest.json"),
        weights=agent_fuser("model.safetensors"),
        config=agent_fuser("config.json"),
        questions=agent_questions,
        tasks=task_files,
    output:
        records="<results>/records/agents/{pair}.parquet",
        provenance="<results>/records/agents/{pair}.parquet.provenance.json",
    log:
        "<results>/logs/generate_agents/{pair}.log",
    benchmark:
        "<results>/benchmarks/generate_agents/{pair}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=answering_memory,
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        scale=config["scale"],
        folder=subpath(input.fuser, parent=True),
        run=lambda wildcards: agent_run(settings, wildcards.pair),
        methods=AGENT_METHODS,
        benchmarks=agent_flags,
        prompts=prompts_of,
        settings=flags(settings.generation),
    message:
        "Answering with {wildcards.pair} as interpreter and solver; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {wildcards.pair:q} --receiver {input.receiver:q}"
        " --sharer {input.sharer:q}"
        " --fuser {params.folder:q} --recipe {params.run.recipe:q} --alignment {params.run.alignment:q}"
        " --seed {params.run.seed:q} --methods {params.methods:q} --prompts {params.prompts:q} --tasks benchmarks/tasks"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"
