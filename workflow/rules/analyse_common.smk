# What the rules of the analyses share.

analyses = analysis.kinds(config)


def analysed_model(kind, role):
    """The manifest of a model of an analysis's pair; in recipe identical the Receiver is the Sharer too."""
    entry = analyses[kind]
    if role == "sharer" and "recipe" in entry:
        role = settings.sharer_role(entry["recipe"])
    return f"<results>/models/{settings.pairs[entry['pair']][role]}.json"


def analysed_files(kind):
    """What an analysis reads: models, questions, prompts, and the fuser where it needs one."""
    entry = analyses[kind]
    files = {role: analysed_model(kind, role) for role in ("receiver", "sharer")}
    files["questions"] = questions_of(entry["benchmark"])
    files["tasks"] = settings.data.task_files(entry["benchmark"])
    if kind in analysis.WITH_FUSER:
        folder = f"<results>/fusers/{analysis.fuser_path(entry)}"
        files |= {"fuser": f"{folder}/manifest.json", "weights": f"{folder}/model.safetensors"}
    return files


def analysed(kind):
    """Flags of an analysis: its pair, Fusers and prompts, and all its numbers."""
    entry = analyses[kind]
    names = {"scale": config["scale"], "pair": entry["pair"], "prompts": analysis.prompts(settings, entry)}
    names |= {key: entry[key] for key in ("recipe", "alignment", "seed") if key in entry}
    return flags(names | analysis.numbers(entry) | settings.generation)
