# What the rules of the analyses share.

analyses = analysis.kinds(config)


def analysed_model(kind, role):
    """The manifest of a model of an analysis's pair; in recipe identical the Receiver is the Sharer too."""
    given = analyses[kind]
    if role == "sharer" and "recipe" in given:
        role = settings.sharer_role(given["recipe"])
    return f"<results>/models/{settings.pairs[given['pair']][role]}.json"


def analysed_files(kind):
    """What an analysis reads: models, questions, prompts, and the fuser where it needs one."""
    given = analyses[kind]
    files = {role: analysed_model(kind, role) for role in ("receiver", "sharer")}
    files["questions"] = questions_of(given["benchmark"])
    files["tasks"] = settings.data.task_files(given["benchmark"])
    if kind in analysis.WITH_FUSER:
        folder = f"<results>/fusers/{analysis.fuser_path(given)}"
        files |= {"fuser": f"{folder}/manifest.json", "weights": f"{folder}/model.safetensors"}
    return files


def analysed(kind):
    """The flags that name an analysis's pair, fuser and prompts, and all its numbers."""
    given = analyses[kind]
    named = {"scale": config["scale"], "pair": given["pair"], "prompts": settings.prompts(given["pair"])}
    named |= {key: given[key] for key in ("recipe", "alignment", "seed") if key in given}
    return flags(named | analysis.numbers(given) | settings.generation)
