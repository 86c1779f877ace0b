"""Endless, seeded training documents for the byte-level needle model.

A document is a list of `Segment`s: bytes, the loss weight of these bytes, and the number of the answer that they are
(0 = none). Token ids 0 to 255 are bytes; 256 is BOS, 257 EOS, 258 padding. Kinds of documents:

* `needle`: key-value statements spread over filler, each asked for once at the end, in random order;
* `rand`: a random string, parts of it repeated later after gaps of filler;
* `copy`: a passage of text repeated later;
* `text`: plain text;
* `dense`: short random strings or small key-value tables, repeated back to back.

Filler is real text (when there is any), sentences of a small grammar, or a fixed refrain. Without a text, the grammar
takes its place everywhere. The module needs nothing but Python.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

BOS, EOS, PAD = 256, 257, 258
KINDS = ("needle", "rand", "copy", "text", "dense")
STYLES = ("pass", "dict", "dict", "eq") + ("template",) * 5
TEMPLATES = ("magic number for", "secret code of", "room number of", "price of", "phone number of", "lucky number of")

CONSONANTS = "b c d f g h j k l m n p r s t v w z br cr dr fl gr kl pl pr sh st th tr".split()
VOWELS = "a e i o u ai ea ou".split()
ENDINGS = ["", "", "", "n", "r", "s", "l", "x"]
ADJECTIVES = ("quiet amber hollow distant silver crooked gentle frozen crimson patient narrow ancient bright dusty "
              "broken hidden lonely marble northern painted restless scarlet tidy velvet wooden yellow").split()
NOUNS = ("harbor lantern meadow orchard bridge castle garden market tower village river forest kitchen library mirror "
         "engine barrel window ladder compass anchor blanket candle feather hammer kettle saddle turnip whistle "
         "wagon").split()
VERBS = ("watches follows remembers carries repairs borrows paints measures counts hides sells forgets polishes "
         "describes finds praises").split()
PEOPLE = ("the miller,the captain,an old sailor,the young clerk,a careful gardener,the baker,my neighbour,the teacher,"
          "a tired traveller,the judge,the shepherd,her cousin,the carpenter,a stranger").split(",")
TIMES = ("in the morning,after the rain,before supper,on market day,without a word,every winter,at the edge of town,"
         "for no reason,with great care,near the old mill,until the bell rings,by candle light").split(",")
REFRAIN = b"The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
LOWER, DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"


class Segment(NamedTuple):
    """A stretch of a document: its bytes, the loss weight of each of them, and which answer they are (0 = none)."""

    data: bytes
    weight: float
    answer: int = 0


class Statement(NamedTuple):
    """A key-value statement, the question that ends right before the value, the value, and what follows it."""

    segments: list[Segment]
    question: bytes
    value: bytes
    tail: bytes

    def size(self) -> int:
        return sum(len(s.data) for s in self.segments) + len(self.question) + len(self.value) + len(self.tail)


@dataclass
class Document:
    """One sequence, ready for training: T + 1 ids (input and shifted target), weights, answer numbers; T positions."""

    kind: str
    ids: list[int]
    weights: list[float]
    answers: list[int]
    positions: list[int]


@dataclass
class Prompt:
    """An evaluation prompt: BOS + context + question, whose greedy continuation has to be `answer`."""

    task: str
    context: bytes
    question: bytes
    answer: bytes


class DocumentGenerator:
    """Makes documents and prompts; everything follows from the text and the seed. Not thread-safe."""

    def __init__(self, text: bytes, seed: int, real_share: float = 0.65):
        self.text = text
        self.random = random.Random(seed)
        self.real_share = real_share if text else 0.0

    # ---- filler

    def grammar(self, size: int) -> bytes:
        """`size` bytes of sentences of the grammar."""
        pick, sentences, length = self.random.choice, [], 0
        while length < size:
            draw = self.random.random()
            if draw < 0.5:
                s = f"{pick(PEOPLE)} {pick(VERBS)} the {pick(ADJECTIVES)} {pick(NOUNS)} {pick(TIMES)}. "
            elif draw < 0.8:
                s = (f"{pick(TIMES)}, {pick(PEOPLE)} {pick(VERBS)} a {pick(NOUNS)} and {pick(VERBS)} the "
                     f"{pick(NOUNS)}. ")
            else:
                s = (f"there is a {pick(ADJECTIVES)} {pick(NOUNS)} beside the {pick(ADJECTIVES)} {pick(NOUNS)}, and "
                     f"{pick(PEOPLE)} {pick(VERBS)} it. ")
            sentences.append(s[0].upper() + s[1:])
            length += len(s)
        return "".join(sentences).encode()[:size]

    def passage(self, size: int) -> bytes:
        """`size` bytes of the text, or of the grammar when the text is too short."""
        if size <= 0:
            return b""
        if len(self.text) <= size + 1:
            return self.grammar(size)
        start = self.random.randrange(len(self.text) - size - 1)
        return self.text[start:start + size]

    def filler(self, size: int, draw: float | None = None) -> bytes:
        """`size` bytes of filler; `draw` in [0, 1) says of which sort."""
        if size <= 0:
            return b""
        draw = self.random.random() if draw is None else draw
        if draw < self.real_share:
            return self.passage(size)
        if draw < 0.95:
            return self.grammar(size)
        return (REFRAIN * (size // len(REFRAIN) + 1))[:size]

    # ---- keys, values, statements

    def word(self) -> str:
        pick = self.random.choice
        return "".join(pick(CONSONANTS) + pick(VOWELS) + pick(ENDINGS) for _ in range(pick((2, 2, 3))))

    def letters(self, alphabet: str, size: int) -> str:
        return "".join(self.random.choice(alphabet) for _ in range(size))

    def key(self) -> str:
        draw, pick = self.random.random(), self.random.choice
        if draw < 0.5:
            return self.word()
        if draw < 0.8:
            return f"{pick(ADJECTIVES)} {pick(NOUNS)}"
        return self.letters(LOWER + DIGITS, pick((3, 4, 5)))

    def keys(self, count: int) -> list[str]:
        """`count` different keys."""
        found: list[str] = []
        while len(found) < count:
            key = self.key()
            if key not in found:
                found.append(key)
        return found

    def value(self) -> str:
        if self.random.random() < 0.75:
            return self.letters(DIGITS, self.random.choice((4, 5, 5, 5, 6)))
        return self.word()

    @staticmethod
    def statement(style: str, key: str, value: str) -> Statement:
        """The first occurrence of a value cannot be predicted: it has weight 0."""
        def make(parts: list[tuple[str, float]], question: str, tail: str) -> Statement:
            segments = [Segment(text.encode(), weight) for text, weight in parts]
            return Statement(segments, question.encode(), value.encode(), tail.encode())

        if style == "pass":
            return make([(" The pass key is ", 1), (value, 0), (". Remember it. ", 1), (value, 2),
                         (" is the pass key. ", 1)], " What is the pass key? The pass key is ", ".")
        if style == "dict":
            return make([(key, 0.1), (": ", 0.5), (value, 0), ("\n", 0.5)], f"{key}: ", "\n")
        if style == "eq":
            return make([(" VAR ", 0.5), (key, 0.1), (" = ", 0.5), (value, 0), (". ", 0.5)], f" VAR {key} = ", ".")
        return make([(f" The {style} ", 0.7), (key, 0.1), (" is ", 1), (value, 0), (". ", 1)],
                    f" What is the {style} {key}? The {style} {key} is ", ".")

    # ---- documents

    def needle(self, size: int) -> list[Segment]:
        rng = self.random
        style = rng.choice(STYLES)
        if style == "template":
            style = rng.choice(TEMPLATES[:2] if rng.random() < 0.5 else TEMPLATES)
        room = {"dict": 40, "eq": 60}.get(style, 140)
        most = 1 if style == "pass" else max(1, min(32, (size - 20) // room))
        count = rng.randint(max(1, most // 3) if rng.random() < 0.6 else 1, most)
        statements = [self.statement(style, key, self.value()) for key in self.keys(count)]
        free = size - sum(s.size() for s in statements) - 2
        if free < 0:
            statements, free = statements[:1], max(0, size - 220)
        document = self.spread(statements, self.gaps(free, len(statements), style in ("dict", "eq")))
        rng.shuffle(statements)
        for number, s in enumerate(statements, 1):
            document += [Segment(s.question, 0.7), Segment(s.value, 6.0, number), Segment(s.tail, 2.0)]
        return document

    def gaps(self, free: int, count: int, may_be_block: bool) -> list[int]:
        """Sizes of the filler before, between and after `count` statements."""
        if may_be_block and self.random.random() < 0.4:
            before = int(free * self.random.random())
            return [before] + [0] * (count - 1) + [free - before]
        cuts = [0.0] + sorted(self.random.random() for _ in range(count)) + [1.0]
        return [int(free * (b - a)) for a, b in zip(cuts, cuts[1:])]

    def spread(self, statements: list[Statement], gaps: list[int]) -> list[Segment]:
        draw, document = self.random.random(), []
        for statement, gap in zip(statements, gaps):
            document += [Segment(self.filler(gap, draw), 0.7)] + statement.segments
        return document + [Segment(self.filler(gaps[-1], draw), 0.7)]

    def rand(self, size: int) -> list[Segment]:
        rng = self.random
        alphabet = rng.choice((LOWER, DIGITS, LOWER + DIGITS + " ", LOWER.upper()))
        text = self.letters(alphabet, rng.randint(6, max(8, min(size // 2, 120)))).encode()
        document, length = [Segment(text, 0.0)], len(text)
        while length < size:
            gap = rng.randint(0, max(1, size - length - len(text))) if rng.random() < 0.6 else 0
            gap = min(gap, size - length)
            again = text[rng.randrange(max(1, len(text) - 8)):]  # its first 4 bytes are the cue
            document += [Segment(self.filler(gap), 0.5), Segment(again[:4], 0.1), Segment(again[4:], 2.0, 1)]
            length += gap + len(again)
        return document

    def dense(self, size: int) -> list[Segment]:
        rng = self.random
        if rng.random() < 0.5:
            alphabet = rng.choice((LOWER, DIGITS, LOWER + DIGITS))
            text = self.letters(alphabet, rng.randint(6, max(8, min(40, size // 3)))).encode()
            return [Segment(text, 0.0)] + [Segment(text, 1.0, 1)] * (size // len(text))
        return self.table(size)

    def table(self, size: int) -> list[Segment]:
        """A small key-value table, asked for again and again."""
        rng = self.random
        count = rng.randint(2, max(3, min(10, size // 26)))
        keys = sorted({self.letters(LOWER, rng.randint(1, 4)) for _ in range(count)})
        separator, end = rng.choice(((b":", b" "), (b"=", b";"), (b" ", b"\n"), (b": ", b"\n"), (b" is ", b". ")))
        width = rng.randint(1, 5)
        rows = [(key.encode(), self.letters(DIGITS, width).encode()) for key in keys]
        document, length, number = [], 0, 0
        while length < size:
            first = number == 0
            for key, value in rows:
                number += 1
                answer = Segment(value, 0.0) if first else Segment(value, 1.5, number)
                document += [Segment(key, 0.0), Segment(separator, 0.3), answer, Segment(end, 0.3)]
                length += len(key) + len(separator) + len(value) + len(end)
            rng.shuffle(rows)
        return document

    def copy(self, size: int) -> list[Segment]:
        length = self.random.randint(24, max(25, size // 3))
        passage = self.passage(length)
        gap = self.random.randint(0, max(1, size - 2 * length - 2))
        return [Segment(self.passage(size - 2 * length - gap), 1.0), Segment(passage, 1.0),
                Segment(self.passage(gap), 1.0), Segment(passage[:6], 0.3), Segment(passage[6:], 1.5, 1)]

    def plain(self, size: int) -> list[Segment]:
        text = self.passage(size + 1) if self.random.random() < 0.9 else self.filler(size + 1, 0.9)
        return [Segment(text, 1.0)]

    def document(self, size: int, mixture: tuple[float, ...], max_position: int, skip_share: float) -> Document:
        """A document of `size` tokens; `mixture` holds one weight for each of KINDS.

        With probability `skip_share` the position ids jump at up to three borders (PoSE, arXiv:2309.10400), so that a
        short document spans up to `max_position` positions.
        """
        kind = self.random.choices(KINDS, mixture)[0]
        make = {"needle": self.needle, "rand": self.rand, "copy": self.copy, "text": self.plain, "dense": self.dense}
        ids, weights, answers, borders = [BOS], [0.0], [0], []
        for data, weight, answer in make[kind](size):
            data = data[:size + 1 - len(ids)]
            if len(data) > 12 or kind == "text":
                borders += [len(ids) + min(8, len(data) // 2), len(ids) + len(data) // 2]
            ids += data
            weights += [weight] * len(data)
            answers += [answer] * len(data)
        missing = size + 1 - len(ids)
        if missing:
            ids += [EOS] + [PAD] * (missing - 1)
            weights += [0.3] + [0.0] * (missing - 1)
            answers += [0] * missing
        skip = max_position > size and self.random.random() < skip_share
        positions = self.skipped_positions(size, borders, max_position) if skip else list(range(size))
        return Document(kind, ids, weights, answers, positions)

    def skipped_positions(self, size: int, borders: list[int], max_position: int) -> list[int]:
        rng = self.random
        room = max_position - size
        total = rng.randint(0, room if rng.random() < 0.7 else max(1, room // 8))
        count = rng.randint(1, 3)
        cuts = [0] + sorted(rng.randint(0, total) for _ in range(count - 1)) + [total]
        places = sorted(rng.choice(borders) if borders else rng.randrange(1, size) for _ in range(count))
        positions = list(range(size))
        for place, (low, high) in zip(places, zip(cuts, cuts[1:])):
            for i in range(place, size):
                positions[i] += high - low
        return positions

    # ---- evaluation

    def prompt(self, size: int, task: str, depth: float) -> Prompt:
        """A prompt of about `size` tokens. `pass`: one pass key; `multi`: one of 8 keys; `dict`: one of 24 keys."""
        rng = self.random
        style, count = {"pass": ("pass", 1), "multi": (rng.choice(TEMPLATES[:2]), 8), "dict": ("dict", 24)}[task]
        statements = [self.statement(style, key, self.letters(DIGITS, 5)) for key in self.keys(count)]
        asked = rng.randrange(count)
        stated = sum(len(s.data) for statement in statements for s in statement.segments)
        free = size - 2 - stated - len(statements[asked].question) - len(statements[asked].value)
        cuts = sorted([rng.random() for _ in range(count - 1)] + [depth])
        asked = cuts.index(depth)
        gaps = [int(free * (b - a)) for a, b in zip([0.0] + cuts, cuts + [1.0])]
        context = b"".join(s.data for s in self.spread(statements, gaps))
        return Prompt(task, context, statements[asked].question, statements[asked].value)
