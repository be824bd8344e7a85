"""A latent cache that several models share: linear in models, shared parameters, and a pair's Fusers like any."""

from __future__ import annotations

import json
from itertools import permutations

import pytest
import torch
from safetensors.torch import load_file

from c2c import FuserStack, RosettaModel
from c2c.checkpoints.checkpoint import load_stack, save_stack
from c2c.checkpoints.checkpoint_folder import CONFIG
from c2c.errors import RefusedError
from c2c.fuser.latent import LatentEncoder, LatentSpace, LatentStack
from c2c.provenance import file_hash
from c2c.types import CacheShape
from tests.conftest import open_gates

LATENT = CacheShape(layers=2, heads=3, head_dim=4)
SIZES = {"hidden_dim": 16, "intermediate_dim": 16}
SHAPES = {"first": CacheShape(3, 2, 8), "second": CacheShape(4, 1, 6), "third": CacheShape(5, 2, 4)}


def states(
    shape: CacheShape, seed: int = 0, batch: int = 2, tokens: int = 5
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    size = (batch, shape.heads, tokens, shape.head_dim)
    return [tuple(torch.randn(size, generator=generator) for _ in range(2)) for _ in range(shape.layers)]


def space(names: list[str], **more) -> LatentSpace:
    torch.manual_seed(0)
    chosen = {name: SHAPES[name] for name in names}
    return LatentSpace(chosen, chosen, LATENT, **{**SIZES, **more})


def parameters(module: torch.nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def test_parameters_grow_with_the_models_and_not_with_their_pairs() -> None:
    alone = sum(parameters(space([name])) for name in SHAPES)
    together = space(list(SHAPES))
    assert parameters(together) == alone
    assert (len(together.encoders), len(together.decoders)) == (3, 3)
    assert len(list(permutations(SHAPES, 2))) == 6
    for receiver, sharer in permutations(SHAPES, 2):
        assert {id(each) for each in together.stack(receiver, sharer).parameters()} <= {
            id(each) for each in together.parameters()
        }


def test_pairs_with_a_model_in_common_hold_the_same_weights_and_no_others_in_common() -> None:
    made = space(list(SHAPES))
    one, other, third = made.stack("first", "second"), made.stack("third", "second"), made.stack("first", "third")

    def held(part: torch.nn.Module) -> set[int]:
        return {each.data_ptr() for each in part.parameters()}

    assert held(one.encoder) == held(other.encoder)
    assert held(one.fusers) == held(third.fusers)
    assert not held(one.fusers) & held(other.fusers)
    assert not held(one.encoder) & held(third.encoder)


def test_a_latent_layer_is_made_from_one_layer_and_half_of_the_sharer_alone() -> None:
    encoder = LatentEncoder(SHAPES["second"], LATENT, [1, 3], 16)
    cache = states(SHAPES["second"])
    before = encoder(cache)
    assert [each.shape for layer in before for each in layer] == [(2, 3, 5, 4)] * 4
    changed = list(cache)
    changed[1] = (cache[1][0] + 1, cache[1][1])
    after = encoder(changed)
    same = [[torch.equal(a, b) for a, b in zip(*layers, strict=True)] for layers in zip(before, after, strict=True)]
    assert same == [[False, True], [True, True]]


def test_a_stack_fuses_what_the_encoder_makes_as_the_decoder_fuses_it() -> None:
    made = space(["first", "second"]).eval()
    stack = made.stack("first", "second").eval()
    stack.force_gates(True)
    theirs, own = states(SHAPES["second"]), states(SHAPES["first"], seed=1)
    expected = made.decoder("first")(made.encoders[1](theirs), own)
    for fused, wanted in zip(stack(theirs, own), expected, strict=True):
        assert torch.equal(fused[0], wanted[0]) and torch.equal(fused[1], wanted[1])
    assert any(not torch.equal(fused[0], old[0]) for fused, old in zip(stack(theirs, own), own, strict=True))


def test_autocast_and_recomputation_reach_the_encoder_and_leave_its_weights() -> None:
    made = space(["first", "second"], dropout=0.0).train()
    gradients = []
    for recompute in (False, True):
        made.zero_grad()
        stack = made.stack("first", "second").train()
        stack.recompute = recompute
        torch.manual_seed(3)
        fused = stack(states(SHAPES["second"]), states(SHAPES["first"], seed=1))
        sum(half.sum() for layer in fused for half in layer).backward()
        gradients.append([each.grad.clone() for each in stack.encoder.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert any(each.abs().max() > 0 for each in gradients[0])
    stack.autocast = torch.bfloat16
    stack.encoder.register_forward_hook(lambda _, __, made: seen.append(made[0][0].dtype))
    seen: list[torch.dtype] = []
    stack(states(SHAPES["second"]), states(SHAPES["first"], seed=1))
    assert seen == [torch.bfloat16]
    assert {each.dtype for each in stack.parameters()} == {torch.float32}


def test_a_decoder_of_another_latent_cache_and_impossible_encoders_are_refused() -> None:
    encoder = LatentEncoder.aligned(SHAPES["second"], LATENT, 16, "terminal")
    other = FuserStack.of_shapes(CacheShape(2, 3, 5), SHAPES["first"], **SIZES)
    with pytest.raises(RefusedError, match="must read the latent cache that the encoder makes"):
        LatentStack(encoder, other)
    with pytest.raises(RefusedError, match="Each of 2 latent layers must read one"):
        LatentEncoder(SHAPES["second"], LATENT, [0, 4], 16)
    with pytest.raises(RefusedError, match="must be positive"):
        LatentEncoder(SHAPES["second"], CacheShape(0, 1, 1), [], 16)
    with pytest.raises(RefusedError, match="A Sharer of the latent space"):
        space(["first"]).stack("first", "second")


@pytest.fixture
def models(tiny_model):
    return tiny_model("qwen3"), tiny_model("llama", layers=4, kv_heads=1, seed=1)


@pytest.fixture
def latent_model(models) -> RosettaModel:
    receiver, sharer = models
    shapes = [CacheShape.of(each.config) for each in models]
    torch.manual_seed(0)
    made = LatentSpace({"sharer": shapes[1]}, {"receiver": shapes[0]}, LATENT, **SIZES)
    return open_gates(RosettaModel.of_stacks(receiver, [sharer], [made.stack("receiver", "sharer")]))


def answers(model: RosettaModel, sections) -> torch.Tensor:
    ids = torch.arange(2, 2 * 9 + 2).reshape(2, 9)
    return model(sections((1, 8), (-1, 1)), ids).logits


@torch.no_grad()
def test_closed_gates_are_the_receiver_bit_for_bit(latent_model, models, sections) -> None:
    alone = RosettaModel([models[0]])
    ids = torch.arange(2, 2 * 9 + 2).reshape(2, 9)
    expected = alone(sections((-1, 8), (-1, 1)), ids).logits
    assert not torch.equal(answers(latent_model, sections), expected)
    with latent_model.restricted(gates="closed"):
        assert torch.equal(answers(latent_model, sections), expected)


@torch.no_grad()
def test_saved_and_loaded_it_gives_the_same_answers_and_the_config_names_what_it_reads(
    latent_model, models, sections, tmp_path
) -> None:
    latent_model.save_pretrained(tmp_path / "pair")
    loaded = RosettaModel.from_pretrained(tmp_path / "pair", receiver=models[0], sharers=models[1])
    assert torch.equal(answers(latent_model, sections), answers(loaded, sections))
    told = json.loads((tmp_path / "pair" / CONFIG).read_text())["latent"]
    assert told == {"shape": {"layers": 2, "heads": 3, "head_dim": 4}, "reads": [2, 3], "hidden_dim": 16}


def test_the_halves_of_saved_pairs_are_the_same_bytes_where_they_have_a_model_in_common(tmp_path) -> None:
    made, found = space(list(SHAPES)), {}
    lines = {"receiver": {"id": "r"}, "sharer": {"id": "s"}}
    for pair in (("first", "second"), ("third", "second")):
        save_stack(made.stack(*pair), tmp_path / pair[0], **lines)
        found[pair[0]] = load_file(tmp_path / pair[0] / "model.safetensors")
    encoders = [{name: each for name, each in part.items() if name.startswith("encoder")} for part in found.values()]
    assert encoders[0] and all(torch.equal(tensor, encoders[1][name]) for name, tensor in encoders[0].items())
    assert sum(name.startswith("fusers") for name in found["first"]) > 0


def test_a_config_with_an_impossible_latent_cache_is_refused(latent_model, tmp_path) -> None:
    latent_model.save_pretrained(tmp_path / "pair")
    path = tmp_path / "pair" / CONFIG
    content = json.loads(path.read_text())
    del content["latent"]["reads"]
    path.write_text(json.dumps(content))
    manifest = tmp_path / "pair" / "manifest.json"
    told = json.loads(manifest.read_text())
    told["sha256"][CONFIG] = file_hash(path)
    manifest.write_text(json.dumps(told))
    with pytest.raises(RefusedError, match=r"latent in config\.json must hold"):
        load_stack(tmp_path / "pair")
