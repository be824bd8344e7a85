"""What the table of models states about the generated models is what they have."""

import pytest

from benchmarks.world import models, vocabulary
from benchmarks.world.pretrain import PretrainingConfig
from benchmarks.world.world import generate
from c2c.storage.formats import read_yaml
from paper.reading.sizes import parameters
from tests.checkout import ROOT

SMOKE = read_yaml(ROOT / "config/smoke.yaml", "Restore it")["world"]


@pytest.mark.parametrize("name", SMOKE["models"])
def test_the_listed_parameters_of_a_generated_model_are_its_own(name):
    world = generate(**{key: SMOKE[key] for key in ("entities", "attributes", "values", "seed")})
    settings = PretrainingConfig(**{**SMOKE["pretraining"], **SMOKE["models"][name]})
    sizes = {key: getattr(settings, key) for key in ("hidden", "layers", "heads", "key_value_heads")}
    model = models.build(settings.architecture, vocabulary.build(settings.tokenizer, world), **sizes)
    assert parameters(name) == pytest.approx(model.num_parameters() / 1e6, abs=0.0005)
