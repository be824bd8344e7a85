# Answers, one record a question and method. Scoring is another rule, so that a new score needs no new answer.
# workflow/kinds gives each job: who answers what, and from which files.


rule answer_questions:
    input:
        unpack(files_of_job),
    output:
        records="<results>/records/{answers}.parquet",
        provenance="<results>/records/{answers}.parquet.provenance.json",
    log:
        "<results>/logs/answer_questions/{answers}.log",
    benchmark:
        "<results>/benchmarks/answer_questions/{answers}.tsv"
    wildcard_constraints:
        answers=one_of(map(re.escape, ANSWERS)),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=job_memory,
        runtime=ANSWER_MINUTES,
        gpu=config["gpus_per_job"],
        tasks=1,
    params:
        tasks=TASKS,
        scale=config["scale"],
        name=lambda wildcards: job_of(wildcards).name,
        fusers=fuser_flags,
        options=lambda wildcards: flags(job_of(wildcards).options),
        methods=lambda wildcards: job_of(wildcards).methods,
        prompts=lambda wildcards: settings.prompts(job_of(wildcards).pairs[0]),
        benchmarks=question_flags,
        settings=flags(settings.answering),
        subject=lambda wildcards: job_of(wildcards).subject,
    message:
        "Answering with {params.subject}: {params.methods}; progress: tail -f {log}"
    shell:
        "c2c generate --scale {params.scale:q} --pair {params.name:q} --receiver {input.receiver:q}"
        " --sharer {input.sharers:q} {params.fusers:q} {params.options:q}"
        " --methods {params.methods:q} --prompts {params.prompts:q} --tasks {params.tasks:q}"
        " --benchmarks {params.benchmarks:q} {params.settings:q} --output {output.records:q} >> {log:q} 2>&1"
