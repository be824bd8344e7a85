# From answers to scores and verdicts; needs no model and no GPU.


rule score_records:
    input:
        records=all_records,
    output:
        scores=report(
            "<results>/scores.csv",
            caption="../report/scores.rst",
            category="Data",
            labels={"what": "scores"},
        ),
        provenance="<results>/scores.csv.provenance.json",
    log:
        "<results>/logs/score_records.log",
    benchmark:
        "<results>/benchmarks/score_records.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        protocol=config["protocol"],
        failed_share=config["failed_share"],
    message:
        "Scoring every answer"
    shell:
        "c2c score --records {input.records:q} --protocol {params.protocol:q}"
        " --failed-share {params.failed_share:q} --output {output.scores:q} > {log:q} 2>&1"


rule write_questions:
    input:
        questions=lambda wildcards: [questions_of(task) for task, _ in asked_tasks()],
        tasks=asked_task_files,
    output:
        questions="<results>/questions.parquet",
        provenance="<results>/questions.parquet.provenance.json",
    log:
        "<results>/logs/write_questions.log",
    benchmark:
        "<results>/benchmarks/write_questions.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        tasks=TASKS,
        plain=asked_flags("plain"),
        chat=asked_flags("chat"),
    message:
        "Writing the texts of the questions to which records refer"
    shell:
        "python -m benchmarks.questions --tasks {params.tasks:q} --plain {params.plain:q} --chat {params.chat:q}"
        " --output {output.questions:q} > {log:q} 2>&1"


rule judge_claims:
    input:
        claims=source("paper/claims.yaml"),
        reference=source("paper/reference_values.csv"),
        records=all_records,
        latency=collect("<results>/latency/{measurement}.parquet", measurement=settings.timed_fusers),
        tables=tables_of_claims(),
    output:
        claims=report(
            "<results>/claims.json",
            caption="../report/claims.rst",
            category="Claims",
            labels={"what": "verdicts"},
        ),
        claims_time=report(
            "<results>/claims_time.json",
            caption="../report/claims_time.rst",
            category="Claims",
            labels={"what": "verdicts about time"},
        ),
        provenance="<results>/claims.json.provenance.json",
        provenance_time="<results>/claims_time.json.provenance.json",
    log:
        "<results>/logs/judge_claims.log",
    benchmark:
        "<results>/benchmarks/judge_claims.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        latency=optional_flag("--latency-records", "latency"),
        tables=optional_flag("--tables", "tables"),
        protocol=config["protocol"],
        # A function, since the linter takes the name `paper` for the start of a path.
        basis=lambda wildcards: basis_of(config),
    message:
        "Holding the paper's claims against the records"
    shell:
        "python -m paper.claims --claims {input.claims:q} --reference {input.reference:q} --records {input.records:q}"
        " --protocol {params.protocol:q} --basis {params.basis:q} {params.latency:q} {params.tables:q} --output {output.claims:q}"
        " --output-time {output.claims_time:q}"
        " > {log:q} 2>&1"
