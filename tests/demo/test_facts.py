from collections import Counter

import pytest

from bench.demo_model import facts
from bench.demo_model.corpus import normalised

RELATIONS = facts.relations()


def _names(relation: facts.Relation) -> str:
    return relation.name


def test_relations_names_are_unique() -> None:
    assert len({relation.name for relation in RELATIONS}) == len(RELATIONS)


@pytest.mark.parametrize("relation", RELATIONS, ids=_names)
def test_relation_keys_are_unique_and_filled(relation: facts.Relation) -> None:
    repeated = [key for key, count in Counter(key.lower() for key, _ in relation.rows).items() if count > 1]
    assert repeated == []
    assert all(key.strip() == key != "" and value.strip() == value != "" for key, value in relation.rows)


@pytest.mark.parametrize("relation", RELATIONS, ids=_names)
def test_relation_held_phrasing_is_not_trained(relation: facts.Relation) -> None:
    # Compared without case and punctuation: a pair of quotes does not make a new phrasing.
    assert not {normalised(text) for text in relation.asked} & {normalised(text) for text in relation.held}
    assert relation.held


@pytest.mark.parametrize("relation", RELATIONS, ids=_names)
def test_relation_unknown_keys_have_no_answer(relation: facts.Relation) -> None:
    assert not set(relation.unknown) & {key for key, _ in relation.rows}


def test_relations_cover_whole_tables() -> None:
    sizes = {relation.name: len(relation.rows) for relation in RELATIONS}
    assert sizes["symbol"] == 118
    assert sizes["capital"] >= 180
    assert sum(sizes.values()) >= 1600


def test_opposites_hold_in_both_directions() -> None:
    pairs = dict(next(relation for relation in RELATIONS if relation.name == "opposite").rows)
    assert all(pairs[pairs[word]] == word for word in pairs)


@pytest.mark.parametrize(
    ("noun", "expected"), [("ant", "an ant"), ("dog", "a dog"), ("unicorn", "a unicorn")]
)
def test_article_noun_is_english(noun: str, expected: str) -> None:
    assert facts.article(noun) == expected
