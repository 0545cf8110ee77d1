"""What a choice covers of unseen text: exact on small text, near the truth on drawn text, and what more text brings."""

import numpy as np
import pytest
import torch

from drafters.vocab.alignment import identity
from drafters.vocab.keep import rank
from pipeline.count.documents import Documents, Sampled
from pipeline.prune.tables import Counts
from pipeline.prune.unseen import judge

NONE = torch.zeros(0, dtype=torch.int64)


def counted(texts, size, domains=("",), heldout=(), read=()) -> tuple[Counts, Documents]:
    items = [
        Sampled(i, "heldout" if i in heldout else "train", domains[i % len(domains)], torch.as_tensor(text), i in read)
        for i, text in enumerate(texts)
    ]
    rows = {name: torch.zeros(size, dtype=torch.int64) for name in sorted(set(domains))}
    for item in items:
        if item.split == "train":
            rows[item.domain] += torch.bincount(item.content, minlength=size)
    total = sum(rows.values())
    return Counts(total, rows, total, rows, None), Documents(items, True)


def most_frequent(kept):
    def choose(counts):
        order = rank(counts.drafter, NONE, torch.ones(len(counts.drafter), dtype=torch.bool), counts.prior)
        return order[:kept].sort().values

    return choose


def test_good_turing_of_documents_by_hand():
    """Tokens that one document alone holds, however often, are what a new document brings."""
    texts = [[0, 0, 1, 5, 5, 5], [0, 1, 1, 2], [0, 2, 6]]
    counts, documents = counted(texts, 8)
    found = judge(counts, documents, identity(8), most_frequent(3), False)
    assert found.mass.value == pytest.approx((3 + 0 + 1) / 13)
    # without the first, 0, 1 and 2 are kept: it is covered but for its 5s; without the second 5 and 0 and one of 1, 2, 6
    assert found.coverage.value == pytest.approx((3 + 3 + 1) / 13)
    assert (found.documents, found.tokens) == (3, 13)


def test_of_documents_of_one_token_it_is_n1_over_n():
    texts = [[token] for token in (0, 0, 0, 1, 1, 2, 3)]
    counts, documents = counted(texts, 5)
    assert judge(counts, documents, identity(5), most_frequent(2), False).mass.value == pytest.approx(2 / 7)


def test_held_out_documents_are_judged_by_the_choice_itself():
    texts = [[0, 0, 1], [0, 1, 2], [0, 7]]
    counts, documents = counted(texts, 8, heldout=(2,))
    found = judge(counts, documents, identity(8), most_frequent(2), False)
    # the held-out one: 0 of 0 and 7 is kept, 7 is new
    assert found.documents == 3
    only = judge(counts, Documents(documents.documents[2:] * 2, True), identity(8), most_frequent(2), False)
    assert (only.coverage.value, only.mass.value) == (0.5, 0.5)


def test_what_the_law_was_read_on_is_no_unseen_text():
    texts = [[0, 1]] * 6
    counts, documents = counted(texts, 3, read=(0, 2, 4))
    assert judge(counts, documents, identity(3), most_frequent(2), False).documents == 3
    assert judge(counts, documents, identity(3), most_frequent(2), True) is None  # another tokenizer: nothing held out


def test_domains_are_judged_apart():
    texts = [[0, 0, 1], [5, 6, 7]] * 6
    counts, documents = counted(texts, 8, domains=("prose", "code"))
    found = judge(counts, documents, identity(8), most_frequent(2), False)
    assert found.domains["prose"].value > found.domains["code"].value


def drawn(law, count, length, draw, burst=0.3):
    """Documents of tokens by a law, each with a favourite of its own that comes again and again."""
    found = []
    for _ in range(count):
        tokens = draw.choice(len(law), length, p=law)
        tokens[draw.random(length) < burst] = draw.choice(len(law), p=law)
        found.append(tokens)
    return found


def test_on_drawn_text_it_is_near_the_truth_and_counting_itself_is_not():
    size, kept, draw = 2000, 200, np.random.default_rng(1)
    law = 1 / np.arange(10, size + 10)
    law /= law.sum()
    texts = drawn(law, 100, 60, draw)
    counts, documents = counted(texts, size)
    choose = most_frequent(kept)
    found = judge(counts, documents, identity(size), choose, False)
    chosen = choose(counts).numpy()
    truth = law[chosen].sum()  # favourites are of the law, too
    assert found.coverage.low < truth < found.coverage.high
    in_sample = float(counts.target[chosen].sum() / counts.target.sum())
    assert in_sample > found.coverage.high  # the error that this is here against
    new = law[counts.target.numpy() == 0].sum()
    assert found.mass.low < new < found.mass.high
    n1_over_n = float((counts.target == 1).sum() / counts.target.sum())
    assert n1_over_n < new  # tokens of a document are alike: the classic estimate is too low


def test_what_is_lacking_is_about_what_the_best_choice_has_besides():
    size, kept, draw = 2000, 300, np.random.default_rng(2)
    law = 1 / np.arange(10, size + 10)
    law /= law.sum()
    best = law[:kept].sum()
    for count in (60, 240):
        said, lacking = [], []
        for _ in range(5):
            counts, documents = counted(drawn(law, count, 30, draw, burst=0.0), size)
            said.append(judge(counts, documents, identity(size), most_frequent(kept), False))
            lacking.append(best - law[most_frequent(kept)(counts).numpy()].sum())
        assert 0.6 < np.mean([found.lacking for found in said]) / np.mean(lacking) < 1.7  # half of two: about
        assert all(0.1 < found.slope <= 1.0 for found in said)  # of few types, which run out: steeper than Zipf's law
        few = said[-1]
        assert few.times(few.lacking / 2) == pytest.approx(2 ** (1 / few.slope))
        assert few.times(few.lacking * 2) == 1.0


def test_where_nothing_is_new_nothing_is_lacking():
    counts, documents = counted([np.arange(3)] * 40, 4)
    found = judge(counts, documents, identity(4), most_frequent(3), False)
    assert (found.lacking, found.mass.value, found.slope) == (0.0, 0.0, None)


def test_a_sample_of_the_text_tells_no_slope():
    counts, documents = counted([[0, 1], [0, 2]] * 9, 3)
    found = judge(counts, Documents(documents.documents, False), identity(3), most_frequent(1), False)
    assert found.times(0.01) is None
