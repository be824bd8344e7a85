# What the rules of latent spaces ask for: the files of all pairs of one, and the pair that stands for a group.
from types import SimpleNamespace


def latent_models(role):
    """The manifests of the Receivers or the Sharers of a latent space, one a pair."""
    return lambda wildcards: [
        f"<results>/models/{settings.pairs[pair][role]}.json" for pair in latent_pairs(settings, wildcards.latent)
    ]


def latent_sets(part):
    """The tokenised training or validation sets of a latent space, one a pair."""
    return lambda wildcards: [
        f"<results>/data/tokenised/{folder}/{part}.parquet" for folder in latent_tokenised(settings, wildcards.latent)
    ]


def first_of(wildcards):
    """What functions of wildcards need of a pair that is asked as a latent space or a group of it is."""
    group = getattr(wildcards, "group", latent_groups(settings, wildcards.latent)[0])
    return SimpleNamespace(pair=members(settings, group)[0])
