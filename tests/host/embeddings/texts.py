"""200 texts of 2 to 256 tokens of all-MiniLM-L6-v2, the same everywhere: sentences of many kinds, by a fixed draw."""

from __future__ import annotations

import random

NUM_TEXTS = 200

SENTENCES = """
The quick brown fox jumps over the lazy dog.
A man is eating food while a woman plays the violin.
What is the capital of Australia, and when was it founded?
Interest rates were raised by 0.25 % on Thursday, the third time this year.
def mean(values): return sum(values) / len(values)  # of a list
Die Straßenbahn fährt über die Brücke nach Köln.
Où se trouve la gare la plus proche, s'il vous plaît ?
El niño comió tres manzanas ayer por la mañana.
東京は日本の首都です。
Москва — столица России.
اللغة العربية جميلة
😀 Great product!!! Would buy again 👍👍
SELECT name, age FROM people WHERE age > 30 ORDER BY name;
The mitochondrion is the powerhouse of the cell.
To be, or not to be: that is the question.
Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.
Error 404: the page https://example.com/a/b?c=d#e was not found.
Antidisestablishmentarianism and pneumonoultramicroscopicsilicovolcanoconiosis are long words.
She sold sea shells by the sea shore; they were, surely, sea-shore shells.
Prof. Dr. J. R. Smith's paper (2019, pp. 12-34) shows the opposite.
x = (-b ± √(b² − 4ac)) / 2a
Take two tablets daily with food, but no more than eight in 24 hours.
THE CAT SAT ON THE MAT
The recipe needs 200 g of flour, 3 eggs, a pinch of salt and half a litre of milk.
How do I reset my password if I no longer have access to my e-mail?
The stock fell sharply after the company missed its earnings forecast.
Mount Everest is 8,849 metres high.
I didn't know you'd be there; nobody'd told me.
In 1969, Neil Armstrong became the first person to walk on the Moon.
\u00a0 tabs\tand   spaces \u200b are folded
""".strip().split("\n")


# The lengths of the long ones, in words; the last is truncated.
LONG = (4, 6, 8, 12, 18, 27, 50, 300)


def texts() -> list[str]:
    """Nearly all are short, as MLX takes some 10 ms for a token on a CPU; the first is empty."""
    draw = random.Random(20)
    found = [""]
    for index in range(1, NUM_TEXTS):
        place = index - (NUM_TEXTS - len(LONG))
        wanted = LONG[place] if place >= 0 else 1 + index % 2
        words: list[str] = []
        while len(words) < wanted:
            words += SENTENCES[int(draw.random() * len(SENTENCES))].split(" ")
        found.append(" ".join(words[:wanted]))
    return found
