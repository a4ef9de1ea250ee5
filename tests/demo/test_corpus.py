import random
import re
from itertools import islice

from bench.demo_model import corpus, words
from bench.demo_model.phrasing import REFUSAL


def test_training_same_seed_gives_same_stream() -> None:
    first = list(islice(corpus.training(7, 3), 300))
    assert first == list(islice(corpus.training(7, 3), 300))
    assert first != list(islice(corpus.training(7, 4), 300))
    assert first != list(islice(corpus.training(8, 3), 300))


def test_training_and_held_out_are_disjoint() -> None:
    held = {dialogue.key() for dialogue in corpus.held_out()}
    for dialogue in islice(corpus.training(1, 0), 12_000):
        assert dialogue.key() not in held
        assert not any(corpus.normalised(question) in held for question, _ in dialogue.turns)


def test_training_never_shows_a_held_pair_or_word() -> None:
    num_pairs = num_words = 0
    for dialogue in islice(corpus.training(2, 0), 12_000):
        for _, answer in dialogue.turns:
            if pair := re.fullmatch(r"(\d+) [+-] (\d+) = -?\d+\.", answer):
                low, high = sorted(map(int, pair.groups()))
                assert not words.is_held("pair", f"{low} {high}", corpus.HELD_PERCENT)
                num_pairs += 1
            if word := re.fullmatch(r'"(\w+)" (?:backwards|has|is spelled) .*', answer):
                assert not word[1].islower() or not words.is_held("word", word[1], corpus.HELD_PERCENT)
                num_words += 1
    assert num_pairs > 1000
    assert num_words > 1000


def test_training_sums_and_reversals_are_right() -> None:
    for dialogue in islice(corpus.training(3, 0), 3_000):
        for _, answer in dialogue.turns:
            if made := re.fullmatch(r"(\d+) ([+-]) (\d+) = (-?\d+)\.", answer):
                a, sign, b, c = made.groups()
                assert int(c) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
            if turned := re.fullmatch(r'"(\w+)" backwards is "(\w+)"\.', answer):
                assert turned[1] == turned[2][::-1]


def test_held_out_smaller_set_is_part_of_the_whole() -> None:
    assert set(corpus.held_out(5)) <= set(corpus.held_out())
    assert {dialogue.skill for dialogue in corpus.held_out(5)} == set(corpus.SKILLS)


def test_held_out_asks_for_refusals_too() -> None:
    refused = [dialogue for dialogue in corpus.held_out(20) if dialogue.skill == "refusal"]
    assert len(refused) == 20
    assert all(dialogue.turns[-1][1] == REFUSAL for dialogue in refused)


def test_made_up_words_are_short_letters() -> None:
    rng = random.Random(5)
    for _ in range(500):
        word = words.made_up(rng)
        assert word.isalpha()
        assert 2 <= len(word) <= 12
