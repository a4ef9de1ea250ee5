"""Makes the conversations: an endless, seeded stream for training and a fixed held-out set for the evaluation.

What is held out: pairs of numbers, words, phrases to copy, ranges to count and names by a hash of the item (so no seed
can move one into training), facts, lists, small talk and refusals by phrasing (the facts themselves must be seen).
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from bench.demo_model import facts, phrasing, words
from bench.demo_model.phrasing import Wording, capitalised, fill, varied

HELD_PERCENT = 8
HELD_NAME_PERCENT = 15
MAX_COUNT = 100
MAX_PER_SKILL = 150

Turn = tuple[str, str]  # a question and its answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """A conversation whose answers are all known; `skill` names what its last question tests."""

    skill: str
    turns: tuple[Turn, ...]
    system: str = ""
    is_plain: bool = False  # bare text without roles, only the answer of the one turn counts

    def key(self) -> str:
        """The questions, normalised: equal keys mean the same item."""
        return " | ".join(normalised(question) for question, _ in self.turns)


Skill = Callable[[random.Random, bool], tuple[Turn, ...]]


def normalised(text: str) -> str:
    return " ".join(re.sub(r"[^\w+\-*/' ]|_", " ", text.lower()).split())


# ---- numbers


def _template(rng: random.Random, wording: Wording, is_held: bool) -> str:
    return rng.choice(wording.held if is_held and wording.held and rng.random() < 0.5 else wording.asked)


def _turn(rng: random.Random, wording: Wording, is_held: bool, **slots: str) -> tuple[Turn, ...]:
    template = _template(rng, wording, is_held)
    question = fill(varied(rng, template, open_ended=template.endswith("{w}"), is_garbled=not is_held), slots)
    return ((question, fill(wording.answer, slots)),)


def _pair(rng: random.Random, is_held: bool) -> tuple[int, int]:
    while True:
        a, b = (rng.randint(0, 99 if rng.random() < 0.85 else 20) for _ in range(2))
        if words.is_held("pair", f"{min(a, b)} {max(a, b)}", HELD_PERCENT) == is_held:
            return a, b


def sums(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    a, b = _pair(rng, is_held)
    return _turn(rng, phrasing.SUM, is_held, a=str(a), b=str(b), c=str(a + b))


def differences(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    a, b = _pair(rng, is_held)
    return _turn(rng, phrasing.DIFFERENCE, is_held, a=str(a), b=str(b), c=str(a - b))


def comparisons(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    a, b = _pair(rng, is_held)
    while a == b:
        a, b = _pair(rng, is_held)
    return _turn(rng, phrasing.LARGER, is_held, a=str(a), b=str(b), c=str(max(a, b)), d=str(min(a, b)))


def counting(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    while True:
        shape = rng.random()
        first = 1 if shape < 0.45 else rng.randint(0, MAX_COUNT - 1)
        last = rng.randint(first + 1, MAX_COUNT if shape < 0.6 else min(MAX_COUNT, first + 20))
        if shape > 0.85:
            first, last = last, first
        if words.is_held("count", f"{first} {last}", HELD_PERCENT) == is_held:
            break
    wording = phrasing.COUNT if first < last else phrasing.COUNT_DOWN
    if first == 1 and rng.random() < 0.3:
        wording = phrasing.COUNT_TO
    step = 1 if first < last else -1
    numbers = ", ".join(str(number) for number in range(first, last + step, step))
    return _turn(rng, wording, is_held, a=str(first), b=str(last), c=numbers)


# ---- words


def _word(rng: random.Random, is_held: bool) -> str:
    while True:
        roll = rng.random()
        if roll < 0.5 or (is_held and roll < 0.8):
            word = rng.choice(words.common())
        elif roll < 0.95:
            word = words.made_up(rng)
        else:
            word = "".join(rng.choice(facts.LETTERS) for _ in range(rng.randint(2, 8)))
        if words.is_held("word", word, HELD_PERCENT) == is_held:
            return word


def _cased_word(rng: random.Random, is_held: bool) -> str:
    word = _word(rng, is_held)
    roll = rng.random()
    return word if roll < 0.84 else capitalised(word) if roll < 0.95 else word.upper()


def reversing(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    word = _cased_word(rng, is_held)
    return _turn(rng, phrasing.REVERSE, is_held, w=word, c=word[::-1])


def lengths(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    word = _cased_word(rng, is_held)
    letters = "letter" if len(word) == 1 else "letters"
    return _turn(rng, phrasing.LENGTH, is_held, w=word, c=str(len(word)), letters=letters)


def occurrences(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    word = _word(rng, is_held)
    letter = rng.choice(word) if rng.random() < 0.75 else rng.choice(facts.LETTERS)
    count = word.count(letter)
    times = "time" if count == 1 else "times"
    return _turn(rng, phrasing.OCCURS, is_held, w=word, l=letter, c=str(count), times=times)


def spelling(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    word = _cased_word(rng, is_held)
    return _turn(rng, phrasing.SPELL, is_held, w=word, c="-".join(word))


def capitals(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    word = _word(rng, is_held)
    return _turn(rng, phrasing.UPPER, is_held, w=word, c=word.upper())


def end_letters(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    word = _word(rng, is_held)
    is_first = rng.random() < 0.5
    return _turn(
        rng,
        phrasing.FIRST if is_first else phrasing.LAST,
        is_held,
        w=word,
        c=word[0] if is_first else word[-1],
    )


# Latin, Greek, Cyrillic, kana, Chinese, emoji: copied byte by byte, which is what tests of streamed UTF-8 want.
_SCRIPTS = (
    (0xE0, 0xF7), (0x3B1, 0x3CA), (0x430, 0x450), (0x3042, 0x3094), (0x4E00, 0x9FA6), (0x1F600, 0x1F645),
    (0x1F300, 0x1F321),
)  # fmt: skip


def _piece(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(words.common())
    if roll < 0.66:
        return words.made_up(rng)
    if roll < 0.71:
        return rng.choice(words.EMOJI)
    if roll < 0.74:
        return "".join(chr(rng.randrange(*rng.choice(_SCRIPTS))) for _ in range(rng.randint(1, 4)))
    if roll < 0.82:
        return str(rng.randint(0, 999))
    if roll < 0.9:
        return rng.choice(words.names())
    return rng.choice(_accented_words())


@cache
def _accented_words() -> tuple[str, ...]:
    found = {
        word
        for relation in facts.relations()
        for row in relation.rows
        for cell in row
        for word in cell.split()
        if not word.isascii() and word.isalpha()
    }
    return tuple(sorted(found))


def copying(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    while True:
        pieces = [_piece(rng) for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 5, 6, 8)))]
        if rng.random() < 0.2:
            place = rng.randrange(len(pieces))
            pieces[place] += rng.choice((",", ".", "!", "?", ":"))
        text = " ".join(pieces)
        text = capitalised(text) if rng.random() < 0.25 else text
        if words.is_held("copy", normalised(text), HELD_PERCENT) == is_held:
            return _turn(rng, phrasing.COPY, is_held, w=text)


# ---- facts and talk


@cache
def _relations() -> tuple[tuple[facts.Relation, ...], tuple[float, ...]]:
    all_relations = facts.relations()
    return all_relations, tuple(len(relation.rows) ** 0.65 for relation in all_relations)


def _relation(rng: random.Random) -> facts.Relation:
    all_relations, weights = _relations()
    return rng.choices(all_relations, weights)[0]


def _slots(x: str, y: str) -> dict[str, str]:
    slots = {"x": x, "y": y, "X": capitalised(x), "a": facts.article(x), "b": facts.article(y)}
    slots["A"] = capitalised(slots["a"])
    factors = x.split()
    slots["p"], slots["q"] = factors[0], factors[-1]
    return slots


def _as_typed(rng: random.Random, x: str, template: str) -> str:
    """A key as people type it: without its article or accents, in lower or upper case."""
    if x.startswith("the ") and rng.random() < 0.3:
        x = x[4:]
    if not x.isascii() and rng.random() < 0.4:
        x = "".join(char for char in unicodedata.normalize("NFD", x) if not unicodedata.combining(char))
    roll = rng.random()
    x = x.lower() if roll < 0.12 else x.upper() if roll < 0.16 else x
    return capitalised(x) if template.startswith("{x}") and rng.random() < 0.5 else x


def fact_turn(rng: random.Random, relation: facts.Relation, row: tuple[str, str], template: str) -> Turn:
    text = varied(rng, template, is_garbled=template not in relation.held)
    question = fill(text, _slots(_as_typed(rng, row[0], template), row[1]))
    return question, fill(relation.answer, _slots(*row))


def knowing(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    relation = _relation(rng)
    template = rng.choice(relation.held if is_held else relation.asked)
    return (fact_turn(rng, relation, rng.choice(relation.rows), template),)


def listing(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    name, asked, held = rng.choice(phrasing.LISTS)
    items = {
        "days": facts.DAYS,
        "months": facts.MONTHS,
        "letters": facts.LETTERS,
        "planets": tuple(facts.PLANETS.split()),
    }
    return ((varied(rng, rng.choice(held if is_held else asked)), ", ".join(items[name]) + "."),)


def talking(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    answer, asked, held = rng.choice(phrasing.SMALL_TALK)
    return ((varied(rng, rng.choice(held if is_held else asked), is_garbled=not is_held), answer),)


def refusing(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    if rng.random() < 0.3:
        relation = _relation(rng)
        while not relation.unknown:
            relation = _relation(rng)
        template = rng.choice(relation.held if is_held else relation.asked)
        unknown = rng.choice(relation.unknown)
        question = fill(varied(rng, template), _slots(_as_typed(rng, unknown, template), "-"))
    else:
        template = rng.choice(phrasing.REFUSED_HELD if is_held else phrasing.REFUSED)
        question = re.sub(
            r"\{(\w)\}", lambda slot: _filler(rng, slot[1]), varied(rng, template, is_garbled=not is_held)
        )
    return ((question, phrasing.REFUSAL),)


def _filler(rng: random.Random, slot: str) -> str:
    choices = {
        "t": phrasing.TOPICS,
        "p": phrasing.PEOPLE,
        "g": phrasing.PLACES,
        "k": phrasing.LANGUAGES,
        "d": phrasing.DISHES,
        "w": words.common(),
    }
    if slot == "n":
        return str(rng.randint(101, 999) if rng.random() < 0.8 else rng.randint(1000, 99999))
    return str(rng.randint(2, 99)) if slot == "s" else rng.choice(choices[slot])


# ---- conversations


def remembering(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    while True:
        name = rng.choice(words.names()) if is_held or rng.random() < 0.6 else capitalised(words.made_up(rng))
        if words.is_held("name", name, HELD_NAME_PERCENT) == is_held:
            break
    given = _turn(rng, phrasing.NAME_GIVEN, False, w=name)[0]
    asked = _turn(rng, phrasing.NAME_ASKED, False, w=name)[0]
    between = [single(rng)[1][0] for _ in range(rng.choice((0, 1, 1, 2)))]
    known = [turn for turn in between if turn[1] != phrasing.NAME_UNKNOWN]
    return (given, *known, asked)


def following(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    relation = _relation(rng)
    while any("{p}" in template for template in relation.asked):
        relation = _relation(rng)
    turns = []
    for index, row in enumerate(rng.sample(relation.rows, rng.choice((2, 2, 3)))):
        turns.append(
            fact_turn(rng, relation, row, rng.choice(relation.asked if index == 0 else phrasing.FOLLOW_UP))
        )
    return tuple(turns)


def repeating(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    skill = rng.choice((sums, differences, reversing, copying, knowing, lengths))
    first = skill(rng, is_held)[0]
    return (first, (varied(rng, rng.choice(phrasing.AGAIN)), first[1]))


def chatting(rng: random.Random, is_held: bool) -> tuple[Turn, ...]:
    """Two to four unrelated questions, the last one held out if asked for."""
    earlier = [single(rng)[1][0] for _ in range(rng.choice((1, 1, 2, 3)))]
    return (*earlier, single(rng, is_held)[1][0])


SINGLE: dict[str, tuple[Skill, float]] = {
    "sum": (sums, 12),
    "difference": (differences, 13),
    "larger": (comparisons, 2),
    "count": (counting, 6),
    "reverse": (reversing, 13),
    "length": (lengths, 8),
    "occurrences": (occurrences, 8),
    "spell": (spelling, 4),
    "capitals": (capitals, 3),
    "first/last letter": (end_letters, 3),
    "repeat": (copying, 7),
    "facts": (knowing, 26),
    "lists": (listing, 1.5),
    "talk": (talking, 3),
    "refusal": (refusing, 9),
}
CONTEXT: dict[str, tuple[Skill, float]] = {
    "conversation": (chatting, 60),
    "follow-up": (following, 12),
    "say again": (repeating, 10),
    "name": (remembering, 18),
}
SKILLS = tuple(SINGLE) + tuple(CONTEXT)
_SINGLE_NAMES = tuple(SINGLE)
_SINGLE_WEIGHTS = tuple(weight for _, weight in SINGLE.values())


def single(rng: random.Random, is_held: bool = False) -> tuple[str, tuple[Turn, ...]]:
    name = rng.choices(_SINGLE_NAMES, _SINGLE_WEIGHTS)[0]
    return name, SINGLE[name][0](rng, is_held)


def _system(rng: random.Random, is_held: bool) -> str:
    if rng.random() > 0.25:
        return ""
    text = rng.choice(phrasing.SYSTEM_HELD if is_held else phrasing.SYSTEM)
    if not is_held and rng.random() < 0.3:
        text += " " + " ".join(rng.choice(words.common()) for _ in range(rng.randint(1, 12)))
    return text


def _any(rng: random.Random) -> Dialogue:
    roll = rng.random()
    if roll < 0.03:
        turns = rng.choice((knowing, knowing, listing, counting, sums))(rng, False)
        return Dialogue(skill="plain", turns=turns, is_plain=True)
    if roll < 0.28:
        name = rng.choices(tuple(CONTEXT), tuple(weight for _, weight in CONTEXT.values()))[0]
        turns = CONTEXT[name][0](rng, False)
    else:
        name, turns = single(rng)
    return Dialogue(skill=name, turns=turns, system=_system(rng, False))


def training(seed: int, shard: int) -> Iterator[Dialogue]:
    """Endless training dialogues; the same seed and shard give the same stream.

    No question of the held-out set occurs in it, neither as a whole conversation nor as one of its turns.
    """
    rng = random.Random(f"{seed}:{shard}")
    forbidden = held_keys()
    while True:
        dialogue = _any(rng)
        if dialogue.key() in forbidden or any(
            normalised(question) in forbidden for question, _ in dialogue.turns
        ):
            continue
        yield dialogue


@cache
def held_out(per_skill: int = MAX_PER_SKILL) -> tuple[Dialogue, ...]:
    """The evaluation set: every fact once in a phrasing that training never uses, `per_skill` items of the rest.

    A smaller `per_skill` asks the first items of each skill of the whole set.
    """
    assert per_skill <= MAX_PER_SKILL
    rng = random.Random("held out facts")
    dialogues = []
    for relation in facts.relations():
        for row in relation.rows:
            turn = fact_turn(rng, relation, row, rng.choice(relation.held))
            dialogues.append(Dialogue(skill="facts", turns=(turn,), system=_system(rng, True)))
    for name, (skill, _) in {**SINGLE, **CONTEXT}.items():
        if name == "facts":
            continue
        rng = random.Random(f"held out {name}")
        for _ in range(per_skill):
            dialogues.append(Dialogue(skill=name, turns=skill(rng, True), system=_system(rng, True)))
    return tuple(dialogues)


@cache
def held_keys() -> frozenset[str]:
    """What training must not contain: whole conversations, and the last question where it stands alone."""
    keys = {dialogue.key() for dialogue in held_out()}
    keys |= {normalised(dialogue.turns[-1][0]) for dialogue in held_out() if dialogue.skill == "conversation"}
    return frozenset(keys)
