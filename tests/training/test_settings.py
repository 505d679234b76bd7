"""Named settings, and single keys of them replaced."""

import msgspec
import pytest

from ecustream.errors import ConfigError
from training.bodies import BODIES, Body
from training.recipe import RECIPES, Recipe
from training.settings import chosen, with_keys


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    """The sentence lists them."""
    assert chosen("body", "1m", BODIES) is BODIES["1m"]
    with pytest.raises(ConfigError, match=r"there is no recipe 'best', only default, paper"):
        chosen("recipe", "best", RECIPES)


def test_keys_are_replaced_and_the_rest_stays() -> None:
    """Values are read as JSON, or as bare text, and become what the key is."""
    before = Recipe()
    made = with_keys(
        ["recipe.batch=16", "recipe.max_seconds=null", "body.attention=full", "recipe.learning_rate=1e-3"],
        body=Body(),
        recipe=before,
    )
    assert made["body"] == msgspec.structs.replace(Body(), attention="full")
    expected = msgspec.structs.replace(before, batch=16, max_seconds=None, learning_rate=1e-3)
    assert made["recipe"] == expected
    assert before == Recipe()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("recipe.batch", "'recipe.batch' is not KEY=VALUE with a key of body"),
        ("batch=3", r"'batch=3' is not KEY=VALUE with a key of body\.\* or recipe\.\*"),
        ("recipe.bach=3", r"recipe\.bach: there is no such key, only batch, accumulation"),
        ("recipe.batch=many", r"recipe\.batch=many: Expected `int`, got `str` - at `\$\.batch`"),
        ("body.attention=half", r"body\.attention=half: Invalid enum value 'half'"),
    ],
)
def test_what_does_not_fit_is_named(text: str, sentence: str) -> None:
    """Each sentence names the key."""
    with pytest.raises(ConfigError, match=sentence):
        with_keys([text], body=Body(), recipe=Recipe())
